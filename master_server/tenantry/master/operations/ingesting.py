"""What happens to batches: judged, decoded, stored as one segment and a few rows, acknowledged.

`Ingest.store` runs in the committer's thread inside a transaction; nothing here knows the wire. A batch that is wrong harms no
other: of a batch with an unreadable record the part before it is stored, and a Tenant whose mark is not where its link believes
(an older link, a commit with an unknown outcome) is sorted out alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tenantry.master.domain.alerts import AlertSource, Firing, RecordCopy
from tenantry.master.domain.records import STORED_AS, JsonValue, NewGap, NewRecord
from tenantry.master.domain.rules import LATE_AFTER_MS, score_of
from tenantry.master.operations.alerting import raise_alerts
from tenantry.master.operations.deliveries import (
    SAMPLE_BYTES,
    DataItem,
    DataSession,
    Decoders,
    LatestFrame,
    LayoutDirectory,
    Outcome,
    decode_against,
)
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.operations.plain_batches import Run, take_together
from tenantry.master.sql.marks import MarkMove, MarksMoved
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame, FrameColumns, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.delivery import AlreadyStored, HighWater, Refuse, Store, StoreLoss, extend_chain, judge
from tenantry.protocol.failures import Failure
from tenantry.protocol.messages import (
    Ack,
    AlertRecord,
    Loss,
    Nack,
    NackCause,
    NotificationRecord,
    Stream,
)
from tenantry.protocol.names import MAX_REASON, tidy_text

RETRY_AFTER_MS = 1_000
_NOTHING = HighWater()


@dataclass(slots=True, eq=False)
class _Progress:
    """How far one stream of one link comes in a transaction; of its frames, the last of each layout."""

    session: DataSession
    stream: Stream
    before: int
    last_seq: int
    chain: bytes
    newest: dict[int, Frame] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """What a transaction has to write for some items."""

    received_ms: int
    frames: list[Frame] = field(default_factory=list)
    records: list[NewRecord] = field(default_factory=list)
    alerts: list[tuple[NewRecord, Firing]] = field(default_factory=list)
    gaps: list[NewGap] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    progress: dict[tuple[int, Stream], _Progress] = field(default_factory=dict)
    columns: list[FrameColumns] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


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
                return self._write(transaction, self._plan_together(items))
        except MarksMoved:
            return self._store_apart(transaction, items)

    def committed(self) -> None:
        """The transaction is durable: the links' marks and latest figures move."""
        if self._rules is not None:
            self._rules.committed()
        for plan in self._written:
            for run in plan.runs:
                run.committed()
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
        transaction.marks.advance(_moves(plan))
        if plan.frames or plan.columns:
            tables = [FrameTable.of_columns(one) for one in plan.columns]
            if plan.frames:
                tables.append(FrameTable.of_frames(plan.frames))
            segment = encode_segment(FrameTable.concatenate(tables))
            transaction.segments.append(
                segment.data,
                received_ms=plan.received_ms,
                frames=segment.summary.frames,
                samples=segment.summary.samples,
                first_ms=segment.summary.first_timestamp,
                last_ms=segment.summary.last_timestamp,
            )
            if self._rules is not None:
                self._rules.evaluate(transaction, plan.frames, plan.columns, plan.received_ms)
        if plan.records or plan.alerts:
            transaction.records.append(plan.records + _raise_own(transaction, plan))
        if plan.gaps:
            transaction.gaps.append(plan.gaps)
        self._written.append(plan)
        return plan.outcomes

    def _plan_together(self, items: Sequence[DataItem]) -> _Plan:
        """Most at once, and what is out of the ordinary one by one."""
        together = take_together(items, self._layouts, self._decoders.alike, self._received_ms)
        rest = [item for item, outcome in zip(items, together.outcomes, strict=True) if outcome is None]
        plan = self._plan(rest)
        others = iter(plan.outcomes)
        plan.outcomes = [next(others) if outcome is None else outcome for outcome in together.outcomes]
        plan.columns, plan.runs = together.columns, together.runs
        return plan

    def _plan(self, items: Sequence[DataItem], stored: Mapping[Stream, HighWater] | None = None) -> _Plan:
        plan = _Plan(self._received_ms)
        for item in items:
            key = (id(item.session), item.message.stream)
            own = plan.progress.get(key)
            if own is None:
                own = plan.progress[key] = _begin(item.session, item.message.stream, stored)
            plan.outcomes.append(self._judge(plan, own, item))
        return plan

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
            alert = None
            try:
                if stream is Stream.NOTIFICATIONS:
                    timestamp_ms, fields = _of_notification(self._decoders.notification(record))
                else:
                    alert = self._decoders.alert(record)
                    timestamp_ms, fields = alert.timestamp_ms, _of_alert(alert)
            except Failure as failure:
                return offset, failure
            row = NewRecord(
                STORED_AS[stream],
                timestamp_ms,
                plan.received_ms,
                session.tenant_id,
                fields,
                session.epoch,
                verdict.first_seq + offset,
            )
            if alert is None:
                plan.records.append(row)
            else:
                plan.alerts.append((row, _own_firing(row, alert)))
        return len(verdict.records), None


def _of_notification(notification: NotificationRecord) -> tuple[int, dict[str, JsonValue]]:
    """The time and the fields of a record of notificationsMaster."""
    return notification.timestamp_ms, {
        "level": notification.level.value,
        "source": notification.source,
        "text": notification.text,
    }


def _of_alert(alert: AlertRecord) -> dict[str, JsonValue]:
    """The fields of a record of alertsMaster."""
    return {
        "rule": alert.rule,
        "firing": alert.firing,
        "severity": alert.severity.value,
        "message": alert.message,
        "metric": alert.metric,
        "labels": dict(alert.labels),
        "value": _finite(alert.value),
        "threshold": _finite(alert.threshold),
    }


def _own_firing(row: NewRecord, alert: AlertRecord) -> Firing:
    """What a Tenant's own rule says, for the alerts of the Master."""
    assert row.tenant_id is not None  # noqa: S101 - it came over a Tenant's link
    return Firing(
        owner=row.tenant_id,
        tenant_id=row.tenant_id,
        source=AlertSource.TENANT,
        rule=alert.rule,
        rule_id=alert.rule,
        score=score_of(alert.severity),
        message=tidy_text(alert.message, MAX_REASON),
        event_ms=row.timestamp_ms,
        series=json.dumps(sorted(alert.labels)),
        over=not alert.firing,
        late=row.received_ms - row.timestamp_ms > LATE_AFTER_MS,
        fields={name: row.fields[name] for name in ("metric", "labels", "value", "threshold")},
        records=(RecordCopy(row.stream, row.timestamp_ms, row.fields),),
    )


def _raise_own(transaction: Transaction, plan: _Plan) -> list[NewRecord]:
    """Raise the alerts that Tenants have sent; their records, with the ids of what they filled."""
    raised = raise_alerts(transaction, [firing for _, firing in plan.alerts], plan.received_ms)
    return [
        row if one is None else replace(row, fields={**row.fields, "alert": one.alert.uid})
        for (row, _), one in zip(plan.alerts, raised, strict=True)
    ]


def _begin(session: DataSession, stream: Stream, stored: Mapping[Stream, HighWater] | None) -> _Progress:
    """Where a link's stream stands before anything of it is taken."""
    last_seq, chain = (session.marks if stored is None else stored).get(stream, _NOTHING)
    return _Progress(session, stream, last_seq, last_seq, chain)


def _moves(plan: _Plan) -> list[MarkMove]:
    """Where the marks go."""
    moves = []
    for run in plan.runs:
        session = run.session
        moves.append(
            MarkMove(
                session.tenant_id,
                Stream.METRICS,
                session.epoch,
                session.incarnation,
                run.before,
                run.last_seq,
                run.chain,
            )
        )
    for own in plan.progress.values():
        if own.last_seq > own.before:
            session = own.session
            moves.append(
                MarkMove(
                    session.tenant_id,
                    own.stream,
                    session.epoch,
                    session.incarnation,
                    own.before,
                    own.last_seq,
                    own.chain,
                )
            )
    return moves


def _latest(frame: Frame) -> LatestFrame:
    """The newest tick of a frame."""
    ticks, values = len(frame.timestamps), frame.values
    newest = values[-(len(values) // ticks) :] if ticks > 1 else values
    return LatestFrame(frame.layout_id, frame.timestamps[-1], frame.received_at, bytes(newest))


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value - value == 0.0 else None
