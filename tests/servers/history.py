"""The promise of delivery, checked against histories: `accepted - declared losses = stored`, each once, in order, nobody let in.

The checker knows nothing of how delivery works; it compares what a numbered daemon wrote down with what the Master's API gives.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenantry.protocol.messages import Stream
from tenantry.transport.wire_values import STREAMS
from tenantry.v1 import stream_service_pb2
from tests.servers.master import MasterProcess
from tests.servers.operating import read_gaps, read_records

METRIC = "test.number"
EVENT_BASE_MS = 1_700_000_000_000
NUMBERS_OF_A_RUN = 1_000_000
MOST_AT_ONCE = 64
BLOCKING = "blocking"
"""The file, beside the history, that ends the block of an event loop when it is removed."""
NAMES = {Stream.METRICS: "metricsMaster", Stream.ALERTS: "alertsMaster", Stream.NOTIFICATIONS: "notificationsMaster"}
# What a program says when something went wrong that nobody expected.
_ACCIDENTS = ("never retrieved", "Traceback", "InternalFault", "INTERNAL_FAULT", "AssertionError", "was never awaited")


class PromiseBroken(AssertionError):
    """Something is lost, doubled, out of order, acknowledged too early, or somebody else's."""


class NoProgress(AssertionError):
    """Nothing is broken because nothing, or too little, happened."""


@dataclass
class History:
    """What a numbered daemon wrote down over all its runs."""

    accepted: dict[Stream, dict[int, tuple[str, int]]] = field(
        default_factory=lambda: {stream: {} for stream in Stream}
    )
    """Number -> (epoch or empty, sequence number)."""
    uncertain: dict[Stream, set[int]] = field(default_factory=lambda: {stream: set() for stream in Stream})
    """Numbers that may have been kept when a run was killed, or that were refused with an unknown outcome."""
    acknowledged: dict[tuple[Stream, str], int] = field(default_factory=dict)
    acks: int = 0
    links: int = 0
    refused: int = 0

    @property
    def count(self) -> int:
        """How many numbers were accepted."""
        return sum(map(len, self.accepted.values()))


def read_history(path: Path) -> History:
    """The history, with what can be checked in it alone. Raises PromiseBroken."""
    history = History()
    following: dict[Stream, int] = {}
    run = -1
    for line in path.read_text().splitlines():
        kind, *values = json.loads(line)
        if kind == "begin":
            _suspect(history, following)
            run = values[0]
            following = dict.fromkeys(Stream, run * NUMBERS_OF_A_RUN)
        elif kind == "accepted":
            stream, (epoch, seq, first, count) = Stream(values[0]), values[1:]
            history.accepted[stream].update({first + place: (epoch, seq + place) for place in range(count)})
            following[stream] = first + count
        elif kind == "refused":
            stream, (first, count, reason) = Stream(values[0]), values[1:]
            history.refused += count
            following[stream] = first + count
            if reason != "SPOOL_FULL":
                history.uncertain[stream].update(range(first, first + count))
        elif kind == "enough":
            following = {}
        elif kind == "ack":
            key, seq = (Stream(values[0]), values[1]), values[2]
            history.acks += 1
            history.acknowledged[key] = max(seq, history.acknowledged.get(key, 0))
        elif kind == "restored":
            history.acknowledged.clear()
        elif kind == "resume":
            history.links += 1
            _check_resume(history, values[0], values[2])
    _suspect(history, following)
    return history


def _suspect(history: History, following: dict[Stream, int]) -> None:
    """A run was cut off: what it was accepting may be on the disk, though nobody said so."""
    for stream, number in following.items():
        history.uncertain[stream].update(range(number, number + MOST_AT_ONCE))


def _check_resume(history: History, epoch: str, marks: dict[str, int]) -> None:
    for name, stored in marks.items():
        known = history.acknowledged.get((Stream(name), epoch), 0)
        if stored < known:
            raise PromiseBroken(f"{name} was acknowledged up to {known}, and the Master has only {stored}")


@dataclass(frozen=True)
class Delivered:
    """What a check has seen, for those who print it or ask for more."""

    accepted: int
    stored: int
    declared: int
    acks: int
    links: int


async def check_delivery(master: MasterProcess, guid: str, path: Path, *, most_links: int | None = None) -> Delivered:
    """Everything that one daemon accepted is stored once or declared lost. To be called when all is delivered.

    ``most_links`` bounds how often it may have connected. Raises PromiseBroken, NoProgress.
    """
    history = read_history(path)
    if not history.acks or not history.count:
        raise NoProgress(f"{history.count} accepted, {history.acks} acknowledgements")
    if most_links is not None and history.links > most_links:
        raise NoProgress(f"{history.links} links, at most {most_links} have a reason")
    gaps = await read_gaps(master, guid)
    stored_count = declared_count = 0
    for stream in Stream:
        records = [record for record in await read_records(master, NAMES[stream], guid) if not _is_of_audit(record)]
        numbers = _numbers(guid, stream, records)
        doubled = [number for number, times in Counter(numbers).items() if times > 1]
        if doubled:
            raise PromiseBroken(f"{len(doubled)} of {stream.value} are stored more than once, such as {doubled[:3]}")
        _check_order(stream, records)
        stored, accepted = set(numbers), history.accepted[stream]
        strange = stored - accepted.keys() - history.uncertain[stream]
        if strange:
            raise PromiseBroken(f"{len(strange)} of {stream.value} were never accepted, such as {sorted(strange)[:3]}")
        missing = accepted.keys() - stored
        own = [gap for gap in gaps if gap.stream == STREAMS.number(stream)]
        undeclared = [number for number in missing if not _is_declared(own, *accepted[number])]
        if undeclared:
            places = [accepted[number] for number in sorted(undeclared)[:3]]
            raise PromiseBroken(f"{len(undeclared)} of {stream.value} are lost, such as {places} of {len(accepted)}")
        denied = [
            number
            for number in stored & accepted.keys()
            if accepted[number][0] and _is_declared(own, *accepted[number])
        ]
        if denied:
            raise PromiseBroken(f"{len(denied)} of {stream.value} are declared lost, and stored: {sorted(denied)[:3]}")
        stored_count += len(stored)
        declared_count += len(missing)
    return Delivered(history.count, stored_count, declared_count, history.acks, history.links)


def _is_of_audit(record: stream_service_pb2.Record) -> bool:
    """What the daemon says by itself of the Master's audit: no number of a test's."""
    fields = record.fields.fields
    words = {fields[name].string_value for name in ("source", "rule") if name in fields}
    return bool(words & {"audit", "audit history"})


def _numbers(guid: str, stream: Stream, records: Iterable[stream_service_pb2.Record]) -> list[int]:
    """The number in each record; whose each is stands in it as well."""
    numbers = []
    for record in records:
        fields = record.fields.fields
        number = record.timestamp.ToMilliseconds() - EVENT_BASE_MS
        if stream is Stream.METRICS:
            whose, says = fields["labels"].struct_value.fields["tenant"].string_value, fields["value"].number_value
        elif stream is Stream.ALERTS:
            whose, says = fields["message"].string_value, fields["value"].number_value
        else:
            whose, _, text = fields["text"].string_value.partition(" ")
            says = float(text)
        if whose != guid or record.tenant_guid != guid:
            raise PromiseBroken(f"a record of {whose} is stored for {record.tenant_guid}")
        if says != number:
            raise PromiseBroken(f"{stream.value} {number} has become {says}")
        numbers.append(number)
    return numbers


def _check_order(stream: Stream, records: Sequence[stream_service_pb2.Record]) -> None:
    """By event time, which is the order of acceptance: none may have been stored before the one before it."""
    times = [record.received_at.ToMilliseconds() for record in records]
    for before, after in itertools.pairwise(times):
        if after < before:
            raise PromiseBroken(f"{stream.value}: a record was stored {before - after} ms before its predecessor")


def _is_declared(gaps: Iterable[stream_service_pb2.Gap], epoch: str, seq: int) -> bool:
    """Whether the ledger names it; an epoch that is lost is lost from its first missing number on."""
    return any(
        gap.epoch == epoch and gap.first_seq <= seq and (gap.last_seq == 0 or seq <= gap.last_seq) if epoch else True
        for gap in gaps
    )


def check_log(log: str) -> None:
    """No program met with anything that nobody expected. Raises PromiseBroken."""
    for line in log.splitlines():
        if any(accident in line for accident in _ACCIDENTS):
            raise PromiseBroken(f"a log says: {line[:2000]}")
