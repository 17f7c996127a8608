"""What nearly every batch is: metric frames of one tick that follow at once on what is stored. They are taken together, as columns.

A session whose batches of a round are all like that is taken here; what else there is goes through `Ingest` one record at a time, with
the same result.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tenantry.master.operations.deliveries import (
    SAMPLE_BYTES,
    AlikeFrames,
    DataItem,
    DataSession,
    LatestFrame,
    LayoutDirectory,
    Outcome,
)
from tenantry.master.timeseries.frames import FrameColumns
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.messages import Ack, Batch, Stream

FEW: Final = 4
"""Fewer frames of one shape are not worth a table."""
_BEGINNING: Final = 20
"""Bytes by which records are told apart, beside their length: a frame begins with its layout."""

_sha256 = hashlib.sha256
_Entry = tuple["Run", int, bytes, Outcome]


@dataclass(slots=True, eq=False)
class Run:
    """How far the metrics of one link come in a transaction, and the frames on the way."""

    session: DataSession
    before: int
    last_seq: int
    chain: bytes
    plain: bool
    latest: list[LatestFrame] = field(default_factory=list)

    def committed(self) -> None:
        """The transaction is durable: the link's mark and its newest frames move."""
        session = self.session
        session.marks[Stream.METRICS] = HighWater(self.last_seq, self.chain)
        for frame in self.latest:
            session.latest[frame.layout_id] = frame


@dataclass(slots=True)
class Together:
    """What was taken of a round: an outcome for each item, None for those of sessions that were left out."""

    columns: list[FrameColumns]
    runs: list[Run]
    outcomes: list[Outcome | None]


def take_together(
    items: Sequence[DataItem],
    layouts: LayoutDirectory,
    read: Callable[[Sequence[bytes]], AlikeFrames | None],
    received_ms: int,
) -> Together:
    """Take the items of plain sessions."""
    runs: dict[int, Run] = {}
    groups: dict[tuple[int, bytes], list[_Entry]] = {}
    outcomes = [_stage(runs, groups, item) for item in items]
    tables = [(group, _read(group, layouts, read)) for group in groups.values()]
    for group, table in tables:
        if table is None:
            for run, _, _, _ in group:
                run.plain = False
    columns = []
    for group, table in tables:
        if table is None:
            continue
        if not all(run.plain for run, _, _, _ in group):
            group = [entry for entry in group if entry[0].plain]
            table = _read(group, layouts, read) if group else None
            if table is None:
                continue
        columns.append(_columns(group, *table, received_ms))
    taken = [run for run in runs.values() if run.plain]
    if len(taken) < len(runs):
        outcomes = [
            outcome if runs[id(item.session)].plain else None for item, outcome in zip(items, outcomes, strict=True)
        ]
    return Together(columns, taken, outcomes)


def _stage(runs: dict[int, Run], groups: dict[tuple[int, bytes], list[_Entry]], item: DataItem) -> Outcome | None:
    """Put the records of an item to those of their shape; None when the item's session is to be left out."""
    session, message = item.session, item.message
    run = runs.get(id(session))
    if run is None:
        mark = session.marks.get(Stream.METRICS)
        if mark is None or not session.state.sends_data:
            runs[id(session)] = Run(session, 0, 0, b"", False)
            return None
        run = runs[id(session)] = Run(session, mark.last_seq, mark.last_seq, mark.chain, True)
    elif not run.plain:
        return None
    if message.first_seq != run.last_seq + 1 or message.stream is not Stream.METRICS or not isinstance(message, Batch):
        run.plain = False
        return None
    chain, seq = run.chain, run.last_seq
    outcome = Outcome(item, Ack(Stream.METRICS, message.last_seq, 1), len(message.records))
    for record in message.records:
        chain = _sha256(chain + record).digest()
        seq += 1
        shape = (len(record), record[:_BEGINNING])
        group = groups.get(shape)
        if group is None:
            groups[shape] = [(run, seq, record, outcome)]
        else:
            group.append((run, seq, record, outcome))
    if chain != message.chain:
        run.plain = False
        return None
    run.last_seq, run.chain = seq, chain
    return outcome


def _read(
    group: Sequence[_Entry], layouts: LayoutDirectory, read: Callable[[Sequence[bytes]], AlikeFrames | None]
) -> tuple[AlikeFrames, int, int] | None:
    """The frames of a group, the number of their layout and how many series it has; None when they are not alike."""
    if len(group) < FEW:
        return None
    alike = read([record for _, _, record, _ in group])
    known = None if alike is None else layouts.get(alike.layout_id)
    if alike is None or known is None or len(alike.values) != len(group) * known[1] * SAMPLE_BYTES:
        return None
    return alike, *known


def _columns(group: Sequence[_Entry], alike: AlikeFrames, number: int, series: int, received_ms: int) -> FrameColumns:
    tenant_ids, seqs, size = [], [], series * SAMPLE_BYTES
    for (run, seq, record, outcome), timestamp_ms in zip(group, alike.timestamps_ms, strict=True):
        outcome.samples += series
        tenant_ids.append(run.session.tenant_id)
        seqs.append(seq)
        run.latest.append(LatestFrame(number, timestamp_ms, received_ms, record[-size:]))
    return FrameColumns(number, received_ms, tenant_ids, seqs, alike.timestamps_ms, alike.values)
