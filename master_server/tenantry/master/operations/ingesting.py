"""What happens to batches: judged, decoded, stored as one segment and a few rows, acknowledged.

`Ingest.store` runs in the committer's thread inside a transaction; nothing here knows the wire. A batch that is wrong harms no
other: of a batch with an unreadable record the part before it is stored, and a Tenant whose mark is not where its link believes
(an older link, a commit with an unknown outcome) is sorted out alone.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tenantry.master.domain.records import STORED_AS, JsonValue, NewGap, NewRecord
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.sql.marks import MarkMove, MarksMoved
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.segments import Frame, encode_segment
from tenantry.protocol.delivery import AlreadyStored, HighWater, Refuse, Store, StoreLoss, extend_chain, judge
from tenantry.protocol.failures import Failure, LayoutUnknown
from tenantry.protocol.messages import (
    Ack,
    AlertRecord,
    Batch,
    Loss,
    MetricFrame,
    Nack,
    NackCause,
    NotificationRecord,
    Stream,
    TenantState,
)
from tenantry.protocol.names import MAX_REASON, tidy_text

_sha256 = hashlib.sha256

RETRY_AFTER_MS = 1_000
SAMPLE_BYTES = 8
_NOTHING = HighWater()


class LatestFrame(NamedTuple):
    """The newest metric frame of a Tenant: what lists show as usage. A named tuple, because one is made for each batch."""

    layout_id: int
    timestamp_ms: int
    received_ms: int
    values: bytes


class DataSession(Protocol):
    """What ingest needs of a link. ``marks`` belongs to the committer's thread."""

    tenant_id: int
    epoch: bytes
    incarnation: int
    marks: dict[Stream, HighWater]
    state: TenantState
    latest: dict[int, LatestFrame]

    def answer(self, outcome: "Outcome", *, crowded: bool = False) -> None:
        """On the event loop: send what became of a batch. ``crowded``: many others are answered in the same round."""


@dataclass(slots=True, eq=False)
class DataItem:
    """A batch or a loss that waits for its transaction; ``size`` in bytes, ``received_ms`` by the steady clock."""

    session: DataSession
    message: Batch | Loss
    size: int
    received_ms: int = 0


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one item. ``reply`` is None when an older link sent it: that link is to be ended."""

    item: DataItem
    reply: Ack | Nack | None
    records: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Decoders:
    """From the bytes of a record to its value; each raises a Failure for what it cannot read."""

    frame: Callable[[bytes], MetricFrame]
    alert: Callable[[bytes], AlertRecord]
    notification: Callable[[bytes], NotificationRecord]


class LayoutDirectory:
    """Layouts by content hash: the Master's own number and how many series. Filled by the committer, read by ingest."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, int]] = {}

    def learn(self, layouts: Iterable[tuple[bytes, int, int]]) -> None:
        """Remember (content hash, number, series)."""
        self._known.update({content: (number, series) for content, number, series in layouts})

    def get(self, content: bytes) -> tuple[int, int] | None:
        """The number and the count of series; None for a layout that nobody has registered."""
        return self._known.get(content)


@dataclass(slots=True, eq=False)
class _Progress:
    """How far one stream of one link comes in a transaction; of its frames, the last of each layout."""

    session: DataSession
    stream: Stream
    before: int
    last_seq: int
    chain: bytes
    takes_frames: bool
    newest: dict[int, Frame] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """What a transaction has to write for some items."""

    received_ms: int
    frames: list[Frame] = field(default_factory=list)
    records: list[NewRecord] = field(default_factory=list)
    gaps: list[NewGap] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    progress: dict[tuple[int, Stream], _Progress] = field(default_factory=dict)


class Ingest:
    """Turns batches into rows. Not thread-safe: one committer owns it."""

    def __init__(
        self,
        decoders: Decoders,
        layouts: LayoutDirectory,
        newest_received_ms: int = 0,
        rules: RuleEvaluator | None = None,
    ) -> None:
        """``newest_received_ms`` is that of the newest segment in the store: times of commits only grow."""
        self._decoders = decoders
        self._rules = rules
        self._layouts = layouts
        self._received_ms = newest_received_ms
        self._written: list[_Plan] = []

    def store(self, transaction: Transaction, items: Sequence[DataItem], now_ms: int) -> list[Outcome]:
        """Write what the items ask for; one outcome an item, in their order. Raises StoreUnavailable."""
        self._received_ms = max(self._received_ms + 1, now_ms)
        self._written = []
        try:
            with transaction.savepoint():
                return self._write(transaction, self._plan(items))
        except MarksMoved:
            return self._store_apart(transaction, items)

    def committed(self) -> None:
        """The transaction is durable: the links' marks and latest figures move."""
        if self._rules is not None:
            self._rules.committed()
        for plan in self._written:
            for own in plan.progress.values():
                session = own.session
                session.marks[own.stream] = HighWater(own.last_seq, own.chain)
                for number, frame in own.newest.items():
                    session.latest[number] = _latest(frame)

    def refused(self, items: Sequence[DataItem], failure: Failure) -> list[Outcome]:
        """The transaction failed: nothing is acknowledged, the daemons shall try again."""
        if self._rules is not None:
            self._rules.refused()
        return [
            Outcome(
                item,
                Nack(
                    item.message.stream,
                    NackCause.STORE_UNAVAILABLE,
                    item.session.marks[item.message.stream].last_seq + 1,
                    1,
                    failure.reason,
                    RETRY_AFTER_MS,
                ),
            )
            for item in items
        ]

    def _store_apart(self, transaction: Transaction, items: Sequence[DataItem]) -> list[Outcome]:
        """One session at a time, from the marks in the store: finds the one whose mark is elsewhere."""
        sessions: dict[int, list[DataItem]] = {}
        for item in items:
            sessions.setdefault(id(item.session), []).append(item)
        outcomes: dict[int, Outcome] = {}
        for own in sessions.values():
            for outcome in self._store_session(transaction, own):
                outcomes[id(outcome.item)] = outcome
        return [outcomes[id(item)] for item in items]

    def _store_session(self, transaction: Transaction, items: Sequence[DataItem]) -> list[Outcome]:
        session = items[0].session
        self._received_ms += 1
        # After a commit with an unknown outcome the link's own idea of its marks may be behind the store.
        stored = transaction.marks.of(session.tenant_id, session.epoch)
        try:
            with transaction.savepoint():
                return self._write(transaction, self._plan(items, stored))
        except MarksMoved:
            return [Outcome(item, None) for item in items]

    def _write(self, transaction: Transaction, plan: _Plan) -> list[Outcome]:
        transaction.marks.advance(
            [
                MarkMove(
                    own.session.tenant_id,
                    own.stream,
                    own.session.epoch,
                    own.session.incarnation,
                    own.before,
                    own.last_seq,
                    own.chain,
                )
                for own in plan.progress.values()
                if own.last_seq > own.before
            ]
        )
        if plan.frames:
            segment = encode_segment(plan.frames)
            transaction.segments.append(
                segment.data,
                received_ms=plan.received_ms,
                frames=segment.summary.frames,
                samples=segment.summary.samples,
                first_ms=segment.summary.first_timestamp,
                last_ms=segment.summary.last_timestamp,
            )
            if self._rules is not None:
                self._rules.evaluate(transaction, plan.frames, plan.received_ms)
        if plan.records:
            transaction.records.append(plan.records)
        if plan.gaps:
            transaction.gaps.append(plan.gaps)
        self._written.append(plan)
        return plan.outcomes

    def _plan(self, items: Sequence[DataItem], stored: Mapping[Stream, HighWater] | None = None) -> _Plan:
        plan = _Plan(self._received_ms)
        progress = plan.progress
        for item in items:
            message = item.message
            key = (id(item.session), message.stream)
            own = progress.get(key)
            if own is None:
                own = progress[key] = _begin(item.session, message.stream, stored)
            if own.takes_frames and message.first_seq == own.last_seq + 1 and isinstance(message, Batch):
                plan.outcomes.append(self._take_next_frames(plan, own, item, message))
            else:
                plan.outcomes.append(self._judge(plan, own, item))
        return plan

    def _take_next_frames(self, plan: _Plan, own: _Progress, item: DataItem, batch: Batch) -> Outcome:
        """What nearly every batch is, in one pass: frames that follow at once on what is stored.

        Does what `judge` and `_take_frames` would do; anything unusual goes there.
        """
        frames, decode, layouts = plan.frames, self._decoders.frame, self._layouts
        tenant_id, received_ms, begin = own.session.tenant_id, plan.received_ms, len(plan.frames)
        chain, seq, samples = own.chain, own.last_seq, 0
        try:
            for record in batch.records:
                number, timestamps, values = decode_against(decode(record), layouts)
                chain = _sha256(chain + record).digest()
                seq += 1
                samples += len(values) // SAMPLE_BYTES
                frames.append(Frame(tenant_id, number, seq, received_ms, timestamps, values))
        except Failure:
            chain = b""
        if chain != batch.chain:
            del frames[begin:]
            return self._judge(plan, own, item)
        newest = own.newest
        for frame in frames[begin:]:
            newest[frame.layout_id] = frame
        taken = seq - own.last_seq
        own.last_seq, own.chain = seq, chain
        return Outcome(item, Ack(Stream.METRICS, seq, 1), taken, samples)

    def _judge(self, plan: _Plan, own: _Progress, item: DataItem) -> Outcome:
        message = item.message
        stream, mark = message.stream, HighWater(own.last_seq, own.chain)
        if not item.session.state.sends_data:
            detail = f"the Tenant is in state {item.session.state.value}"
            return Outcome(item, Nack(stream, NackCause.STATE, mark.last_seq + 1, 1, detail))
        match judge(mark, message):
            case Store() as verdict:
                return self._take(plan, own, item, verdict)
            case StoreLoss() as verdict:
                assert isinstance(message, Loss)  # noqa: S101 - judge answers StoreLoss to nothing else
                plan.gaps.append(
                    NewGap(
                        item.session.tenant_id,
                        stream,
                        item.session.epoch,
                        verdict.first_seq,
                        verdict.last_seq,
                        message.reason,
                        tidy_text(message.detail, MAX_REASON),
                        plan.received_ms,
                    )
                )
                own.last_seq, own.chain = verdict.after
                return Outcome(item, Ack(stream, own.last_seq, 1))
            case AlreadyStored():
                return Outcome(item, Ack(stream, mark.last_seq, 1))
            case Refuse(cause, expected, detail):
                return Outcome(item, Nack(stream, cause, expected, 1, detail))

    def _take(self, plan: _Plan, own: _Progress, item: DataItem, verdict: Store) -> Outcome:
        stream = own.stream
        if stream is Stream.METRICS:
            taken, samples, problem = self._take_frames(plan, own, verdict)
        else:
            samples = 0
            taken, problem = self._take_rows(plan, own, verdict)
        if problem is None:
            own.last_seq, own.chain = verdict.after
            return Outcome(item, Ack(stream, own.last_seq, 1), taken, samples)
        own.last_seq, own.chain = own.last_seq + taken, extend_chain(own.chain, verdict.records[:taken])
        reply = Nack(stream, NackCause.POISONED, own.last_seq + 1, 1, problem.describe())
        return Outcome(item, reply, taken, samples)

    def _take_frames(self, plan: _Plan, own: _Progress, verdict: Store) -> tuple[int, int, Failure | None]:
        """Frames of the batch into the plan; how many, how many samples, and why it stopped."""
        tenant_id, received_ms, decode = own.session.tenant_id, plan.received_ms, self._decoders.frame
        seq, samples = verdict.first_seq, 0
        for record in verdict.records:
            try:
                number, timestamps, values = decode_against(decode(record), self._layouts)
            except Failure as failure:
                return seq - verdict.first_seq, samples, failure
            own.newest[number] = Frame(tenant_id, number, seq, received_ms, timestamps, values)
            plan.frames.append(own.newest[number])
            seq += 1
            samples += len(values) // SAMPLE_BYTES
        return len(verdict.records), samples, None

    def _take_rows(self, plan: _Plan, own: _Progress, verdict: Store) -> tuple[int, Failure | None]:
        """Alerts and notifications of the batch into the plan; how many, and why it stopped."""
        session, stream = own.session, own.stream
        for offset, record in enumerate(verdict.records):
            try:
                timestamp_ms, fields = self._fields(stream, record)
            except Failure as failure:
                return offset, failure
            plan.records.append(
                NewRecord(
                    STORED_AS[stream],
                    timestamp_ms,
                    plan.received_ms,
                    session.tenant_id,
                    fields,
                    session.epoch,
                    verdict.first_seq + offset,
                )
            )
        return len(verdict.records), None

    def _fields(self, stream: Stream, record: bytes) -> tuple[int, dict[str, JsonValue]]:
        if stream is Stream.NOTIFICATIONS:
            notification = self._decoders.notification(record)
            return notification.timestamp_ms, {
                "level": notification.level.value,
                "source": notification.source,
                "text": notification.text,
            }
        alert = self._decoders.alert(record)
        return alert.timestamp_ms, {
            "rule": alert.rule,
            "firing": alert.firing,
            "severity": alert.severity.value,
            "message": alert.message,
            "metric": alert.metric,
            "labels": dict(alert.labels),
            "value": _finite(alert.value),
            "threshold": _finite(alert.threshold),
        }


def _begin(session: DataSession, stream: Stream, stored: Mapping[Stream, HighWater] | None) -> _Progress:
    """Where a link's stream stands before anything of it is taken."""
    last_seq, chain = (session.marks if stored is None else stored).get(stream, _NOTHING)
    return _Progress(session, stream, last_seq, last_seq, chain, stream is Stream.METRICS and session.state.sends_data)


def _latest(frame: Frame) -> LatestFrame:
    """The newest tick of a frame."""
    ticks, values = len(frame.timestamps), frame.values
    newest = values[-(len(values) // ticks) :] if ticks > 1 else values
    return LatestFrame(frame.layout_id, frame.timestamps[-1], frame.received_at, bytes(newest))


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value - value == 0.0 else None


def decode_against(frame: MetricFrame, layouts: LayoutDirectory) -> tuple[int, tuple[int, ...], bytes]:
    """A frame's layout number, timestamps and values. Raises LayoutUnknown unless the values fill ticks x series exactly."""
    known = layouts.get(frame.layout_id)
    if known is None:
        raise LayoutUnknown(problem=f"nobody registered the layout {frame.layout_id.hex()}")
    number, series = known
    if len(frame.values) != SAMPLE_BYTES * series * len(frame.timestamps_ms):
        raise LayoutUnknown(
            problem=f"{len(frame.values)} bytes of values for {len(frame.timestamps_ms)} ticks of {series} series"
        )
    return number, frame.timestamps_ms, frame.values
