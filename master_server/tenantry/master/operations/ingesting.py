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

    def answer(self, outcome: "Outcome") -> None:
        """On the event loop: send what became of a batch."""


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
    after: HighWater | None = None
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


@dataclass(slots=True)
class _Plan:
    """What a transaction has to write for some items."""

    received_ms: int
    frames: list[Frame] = field(default_factory=list)
    records: list[NewRecord] = field(default_factory=list)
    gaps: list[NewGap] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    marks: dict[tuple[int, Stream], tuple[DataSession, HighWater, HighWater]] = field(default_factory=dict)
    latest: dict[tuple[int, int], tuple[DataSession, LatestFrame]] = field(default_factory=dict)


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
        self._latest: list[_Plan] = []

    def store(self, transaction: Transaction, items: Sequence[DataItem], now_ms: int) -> list[Outcome]:
        """Write what the items ask for; one outcome an item, in their order. Raises StoreUnavailable."""
        self._received_ms = max(self._received_ms + 1, now_ms)
        self._latest = []
        try:
            with transaction.savepoint():
                return self._write(transaction, self._plan(items))
        except MarksMoved:
            return self._store_apart(transaction, items)

    def committed(self, outcomes: Iterable[Outcome]) -> None:
        """The transaction is durable: the links' marks and latest figures move."""
        if self._rules is not None:
            self._rules.committed()
        for outcome in outcomes:
            if outcome.after is not None:
                outcome.item.session.marks[outcome.item.message.stream] = outcome.after
        for plan in self._latest:
            for (_, layout_id), (session, latest) in plan.latest.items():
                session.latest[layout_id] = latest

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
                    session.tenant_id,
                    stream,
                    session.epoch,
                    session.incarnation,
                    before.last_seq,
                    after.last_seq,
                    after.chain,
                )
                for (_, stream), (session, before, after) in plan.marks.items()
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
        self._latest.append(plan)
        return plan.outcomes

    def _plan(self, items: Sequence[DataItem], stored: Mapping[Stream, HighWater] | None = None) -> _Plan:
        plan = _Plan(self._received_ms)
        for item in items:
            session, message = item.session, item.message
            stream = message.stream
            key = (id(session), stream)
            moved = plan.marks.get(key)
            base = (session.marks if stored is None else stored).get(stream, HighWater())
            mark = moved[2] if moved is not None else base
            if (
                stream is Stream.METRICS
                and isinstance(message, Batch)
                and message.first_seq == mark.last_seq + 1
                and session.state.sends_data
            ):
                outcome = self._take_next_frames(plan, item, message, mark)
            else:
                outcome = self._judge(plan, item, mark)
            plan.outcomes.append(outcome)
            if outcome.after is not None and outcome.after.last_seq > mark.last_seq:
                plan.marks[key] = (session, moved[1] if moved is not None else base, outcome.after)
        return plan

    def _take_next_frames(self, plan: _Plan, item: DataItem, batch: Batch, mark: HighWater) -> Outcome:
        """What nearly every batch is, in one pass: frames that follow at once on what is stored.

        Does what `judge` and `_take_frames` would do; anything unusual goes there.
        """
        session = item.session
        tenant_id, received_ms, decode, layouts = (
            session.tenant_id,
            plan.received_ms,
            self._decoders.frame,
            self._layouts,
        )
        chain, seq, samples = mark.chain, batch.first_seq, 0
        frames: list[Frame] = []
        number, values = 0, b""
        timestamps: tuple[int, ...] = ()
        try:
            for record in batch.records:
                number, timestamps, values = decode_against(decode(record), layouts)
                chain = _sha256(chain + record).digest()
                frames.append(Frame(tenant_id, number, seq, received_ms, timestamps, values))
                seq += 1
                samples += len(values) // SAMPLE_BYTES
        except Failure:
            return self._judge(plan, item, mark)
        if chain != batch.chain:
            return self._judge(plan, item, mark)
        plan.frames += frames
        for frame in frames[:-1]:
            if frame.layout_id != number:
                self._note_latest(plan, session, frame.layout_id, frame.timestamps, bytes(frame.values))
        self._note_latest(plan, session, number, timestamps, values)
        return Outcome(item, Ack(Stream.METRICS, seq - 1, 1), HighWater(seq - 1, chain), len(frames), samples)

    @staticmethod
    def _note_latest(plan: _Plan, session: DataSession, number: int, timestamps: Sequence[int], values: bytes) -> None:
        newest = values[-(len(values) // len(timestamps)) :] if len(timestamps) > 1 else values
        plan.latest[id(session), number] = (session, LatestFrame(number, timestamps[-1], plan.received_ms, newest))

    def _judge(self, plan: _Plan, item: DataItem, mark: HighWater) -> Outcome:
        message = item.message
        stream = message.stream
        if not item.session.state.sends_data:
            detail = f"the Tenant is in state {item.session.state.value}"
            return Outcome(item, Nack(stream, NackCause.STATE, mark.last_seq + 1, 1, detail))
        match judge(mark, message):
            case Store() as verdict:
                return self._take(plan, item, mark, verdict)
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
                return Outcome(item, Ack(stream, verdict.after.last_seq, 1), verdict.after)
            case AlreadyStored():
                return Outcome(item, Ack(stream, mark.last_seq, 1), mark)
            case Refuse(cause, expected, detail):
                return Outcome(item, Nack(stream, cause, expected, 1, detail))

    def _take(self, plan: _Plan, item: DataItem, mark: HighWater, verdict: Store) -> Outcome:
        take = self._take_frames if item.message.stream is Stream.METRICS else self._take_rows
        taken, samples, problem = take(plan, item, verdict)
        if problem is None:
            return Outcome(item, Ack(item.message.stream, verdict.after.last_seq, 1), verdict.after, taken, samples)
        after = HighWater(mark.last_seq + taken, extend_chain(mark.chain, verdict.records[:taken]))
        reply = Nack(item.message.stream, NackCause.POISONED, after.last_seq + 1, 1, problem.describe())
        return Outcome(item, reply, after, taken, samples)

    def _take_frames(self, plan: _Plan, item: DataItem, verdict: Store) -> tuple[int, int, Failure | None]:
        """Frames of the batch into the plan; how many, how many samples, and why it stopped."""
        session = item.session
        tenant_id, received_ms, decode = session.tenant_id, plan.received_ms, self._decoders.frame
        seq, samples = verdict.first_seq, 0
        for record in verdict.records:
            try:
                layout_id, timestamps, values = decode_against(decode(record), self._layouts)
            except Failure as failure:
                return seq - verdict.first_seq, samples, failure
            plan.frames.append(Frame(tenant_id, layout_id, seq, received_ms, timestamps, values))
            seq += 1
            samples += len(values) // SAMPLE_BYTES
            self._note_latest(plan, session, layout_id, timestamps, values)
        return len(verdict.records), samples, None

    def _take_rows(self, plan: _Plan, item: DataItem, verdict: Store) -> tuple[int, int, Failure | None]:
        """Alerts and notifications of the batch into the plan; how many, no samples, and why it stopped."""
        session, stream = item.session, item.message.stream
        for offset, record in enumerate(verdict.records):
            try:
                timestamp_ms, fields = self._fields(stream, record)
            except Failure as failure:
                return offset, 0, failure
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
        return len(verdict.records), 0, None

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
