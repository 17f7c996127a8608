"""Rules over windows judge what is stored: they read the streams behind the ingest, which never waits for them.

`WindowJudge` keeps the windows that are open in memory. A round reads what has come since the last one (`look`, in a thread that
reads) and gathers the windows that have closed; where one of them may change something, what follows is written in one transaction
(`settle`, in the thread that writes), together with the place up to which the streams were read. A Master that dies at any point reads
again from an earlier place, judges nothing twice, and tells each finding once: the states of thresholds know the time of their last
change.

Event time rules. Windows close by what the Tenant itself has sent, and in streams that are not metrics also by the Master's clock,
while the Tenant is connected and holds nothing back: a backlog is judged as if it had come in time, and what it finds is *found late*.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.lifecycle import SUPERVISED
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import Rule
from tenantry.master.operations.failing_rules import tell_failing
from tenantry.master.operations.findings import carry_out
from tenantry.master.operations.following import Tail, open_tail
from tenantry.master.operations.holding import holds_in_alert
from tenantry.master.operations.limits_met import tell_limits
from tenantry.master.operations.metric_columns import ColumnTail
from tenantry.master.operations.metric_ticks import END_OF_COMMIT, LayoutCache
from tenantry.master.operations.open_windows import Found, OpenWindows, key_of
from tenantry.master.operations.places import read_arrival, write_arrival
from tenantry.master.operations.reading import ReadRecord, RecordFilter
from tenantry.master.operations.window_metrics import Known, MetricWindows
from tenantry.master.operations.window_places import (
    INTERVAL_MS,
    Place,
    begin_of,
    load_beginnings,
    load_places,
    order_of,
    save_beginnings,
    save_places,
    with_place,
)
from tenantry.master.operations.window_programs import WindowProgram, compile_window, row_of
from tenantry.master.operations.window_resets import resets_since
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.rule_states import SeriesKey
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure

SPARE_MS: Final = 600_000
"""So much further back than the longest window reading begins after a restart."""
STEPS_A_LOOK: Final = 20
METRIC_STEPS_A_LOOK: Final = 2
"""Each brings whole commits, with as many samples as all steps of another stream bring records."""
GRACE_MS: Final = 1_000
"""What has happened a moment ago may still be on its way into the store."""

CaughtUp = Callable[[int, int], bool]
"""Whether a Tenant (the store's number) is connected and holds nothing back of what happened up to a time (Unix ms)."""

_SENT: Final = frozenset({StreamName.ALERTS_MASTER, StreamName.NOTIFICATIONS_MASTER})
"""Streams that come from Tenants: the others are complete when the Master has written them."""


@dataclass(slots=True)
class _Reading:
    """A stream of records that rules read."""

    tail: Tail
    cursor: str
    judged_until: tuple[int, ...]
    """What lies up to here was judged in an earlier life."""


@dataclass(slots=True)
class _MetricReading:
    """The metrics, where rules read some."""

    tail: ColumnTail
    metrics: frozenset[str]
    cursor: str
    judged_until_ms: int
    """What was received up to here was judged in an earlier life."""


@dataclass(slots=True)
class _Written:
    """What a transaction makes of what was found, until it is committed."""

    places: list[Place] = field(default_factory=list)
    dropped: set[SeriesKey] = field(default_factory=set)


class WindowJudge:
    """The windows of all rules that have some. Not thread-safe: `look` and `settle` take turns; `note` may come at any time."""

    def __init__(self, clock_tolerance_ms: int) -> None:
        """A record further ahead of the Master's clock than ``clock_tolerance_ms`` is not judged."""
        self._tolerance_ms = clock_tolerance_ms
        self._layouts = LayoutCache()
        self._stale: set[int] = set()
        self._reset: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        self._known = False
        self._programs: dict[int, WindowProgram] = {}
        self._by_stream: dict[StreamName, list[WindowProgram]] = {}
        self._readings: dict[StreamName, _Reading] = {}
        self._metric_reading: _MetricReading | None = None
        self._open = OpenWindows()
        self._metrics = MetricWindows(self._open, self._layouts)
        self._places: list[Place] = []
        self._place = Place(0, {})
        self._forgotten: dict[int, int] = {}
        """While an earlier life is read again: what was received of a Tenant before this is not known any more (Unix ms)."""
        self._since: dict[int, int] = {}
        """From when on (received, Unix ms) records count for each rule: since it was made, enabled, or asked something else.
        It matters while an earlier life is read again; afterwards a clock that is set back would silence the rule."""
        self._rereading = True
        self._untold = False
        """Rules were read, and the store does not say yet since when they count."""
        self._written = _Written()

    @property
    def streams(self) -> frozenset[StreamName]:
        """Those that rules read now."""
        return frozenset(self._by_stream)

    @property
    def idle(self) -> bool:
        """Whether there is no rule over windows, and none has come."""
        return self._known and not (self._programs or self._stale or self._open.found.failing)

    def note(self, changes: Changes) -> None:
        """A transaction was committed."""
        self._stale.update(changes.rules)
        self._reset.update(changes.rules_reset)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def look(self, transaction: Transaction, caught_up: CaughtUp, now_ms: int) -> bool:
        """Read what has come; whether there is more to read at once. Raises StoreUnavailable."""
        self._follow(transaction)
        more = self._read_metrics(transaction, now_ms)
        for stream, reading in self._readings.items():
            for _ in range(STEPS_A_LOOK):
                step = reading.tail.advance(transaction)
                for record in step.records:
                    self._take(stream, reading, record, now_ms)
                reading.cursor = step.cursor
                if not step.more:
                    break
            else:
                more = True
        if not more:
            self._forgotten, self._rereading = {}, False
            self._watch_clock(caught_up, now_ms)
        self._place = Place(now_ms, self._cursors())
        return more

    def _cursors(self) -> dict[StreamName, str]:
        cursors = {stream: reading.cursor for stream, reading in self._readings.items()}
        if self._metric_reading is not None:
            cursors[StreamName.METRICS_MASTER] = self._metric_reading.cursor
        return cursors

    @property
    def due(self) -> bool:
        """Whether `settle` has something to write."""
        behind = not self._places or self._place.at_ms - self._places[-1].at_ms >= INTERVAL_MS
        found = self._open.found
        return bool(found.states or found.failing) or (bool(self._by_stream) and (behind or self._untold))

    def _read_metrics(self, transaction: Transaction, now_ms: int) -> bool:
        reading = self._metric_reading
        if reading is None:
            return False
        for _ in range(METRIC_STEPS_A_LOOK):
            step = reading.tail.advance(transaction)
            latest_ms = now_ms + self._tolerance_ms
            since = self._since if self._rereading else {}
            known = Known(reading.judged_until_ms, since, self._forgotten)
            self._metrics.take(transaction, step.ticks, now_ms, latest_ms, known)
            reading.cursor = write_arrival(step.until)
            if not step.more:
                return False
        return True

    def _take(self, stream: StreamName, reading: _Reading, record: ReadRecord, now_ms: int) -> None:
        tenant = record.tenant
        if tenant is None or record.timestamp_ms > now_ms + self._tolerance_ms:
            return
        if record.received_ms < self._forgotten.get(tenant.id, 0):
            return
        again = bool(reading.judged_until) and order_of(stream, record.cursor) <= reading.judged_until
        row = row_of(stream, record)
        for program in self._by_stream[stream]:
            rule = program.rule
            if rule.id in self._open.broken or rule.owner not in (MAIN_OWNER, tenant.id):
                continue
            if self._rereading and record.received_ms < self._since[rule.id]:
                continue
            try:
                counted = program.read(row)
            except Failure as failure:
                self._open.fail(rule, str(failure))
                continue
            self._open.count(program, tenant.id, record.timestamp_ms, counted, None if again else now_ms)

    def _watch_clock(self, caught_up: CaughtUp, now_ms: int) -> None:
        for stream, programs in self._by_stream.items():
            if stream is StreamName.METRICS_MASTER:
                continue
            for program in programs:
                if program.rule.id not in self._open.broken:
                    self._close_by_clock(stream, program, caught_up, now_ms)

    def _close_by_clock(self, stream: StreamName, program: WindowProgram, caught_up: CaughtUp, now_ms: int) -> None:
        watermark_ms = now_ms - GRACE_MS - program.shape.lateness_ms
        for tenant_id, windows in self._open.of(program.rule.id).items():
            if windows.judged_ms is None:
                windows.begin(self._last_change_ms(program.rule.id, tenant_id))
            if stream not in _SENT or caught_up(tenant_id, watermark_ms):
                self._open.close(program, tenant_id, windows, now_ms, watermark_ms)

    def _last_change_ms(self, rule_id: int, tenant_id: int) -> int:
        states = self._open.states
        found = [state for key, state in states.items() if (key.rule_id, key.tenant_id) == (rule_id, tenant_id)]
        return max(one.last_ms for state in found for one in state.states)

    # --- rules -----------------------------------------------------------------------------------------------------------

    def _follow(self, transaction: Transaction) -> None:
        """Read what was changed of rules since they were read."""
        reset, self._reset = self._reset, set()
        if reset:
            self._open.drop_tenants(frozenset(reset))
            self._metrics.drop_tenants(reset)
        if self._known and not self._stale:
            return
        self._stale = set()
        owners = transaction.rules.judging()
        active = {rule.id: rule for rule in transaction.rules.active(owners) if rule.draft.condition.window is not None}
        for rule_id in [one for one in self._programs if one not in active or self._changed(active[one])]:
            del self._programs[rule_id]
            self._since.pop(rule_id, None)
            self._open.drop_rule(rule_id)
        if not self._known:
            self._places, self._since = load_places(transaction), load_beginnings(transaction)
        for rule in active.values():
            if rule.id not in self._programs:
                self._learn(transaction, rule)
        self._since = {rule_id: since_ms for rule_id, since_ms in self._since.items() if rule_id in self._programs}
        self._untold = True
        self._by_stream = {}
        for program in self._programs.values():
            self._by_stream.setdefault(program.rule.draft.condition.stream, []).append(program)
        self._metrics.follow(self._by_stream.get(StreamName.METRICS_MASTER, ()))
        self._open_streams(transaction)
        self._known = True

    def _changed(self, rule: Rule) -> bool:
        known = self._programs[rule.id].rule
        return (known.draft.condition, known.draft.actions) != (rule.draft.condition, rule.draft.actions)

    def _learn(self, transaction: Transaction, rule: Rule) -> None:
        try:
            program = compile_window(rule)
        except Failure as failure:
            self._open.found.failing[rule.id] = rule, str(failure)
            return
        self._programs[rule.id] = program
        told_ms = self._places[-1].at_ms if self._places and not self._known else 0
        if rule.id not in self._since or rule.updated_ms > told_ms > 0:
            self._since[rule.id] = rule.updated_ms
        for key, state in transaction.rule_states.of_rule(rule.id):
            self._open.learn(program, key, state)

    def _open_streams(self, transaction: Transaction) -> None:
        if not self._known and self._programs:
            began_ms = min(program.rule.updated_ms for program in self._programs.values())
            since_ms = self._places[0].at_ms - SPARE_MS if self._places else began_ms
            self._forgotten = resets_since(transaction, since_ms)
        for stream, programs in self._by_stream.items():
            if stream is StreamName.METRICS_MASTER:
                self._open_metrics(transaction, programs)
            elif stream not in self._readings:
                cursor, until = self._where(transaction, stream, programs)
                tail = open_tail(RecordFilter(stream), cursor, 0, self._layouts)
                self._readings[stream] = _Reading(tail, cursor, order_of(stream, until) if until else ())
        self._readings = {stream: one for stream, one in self._readings.items() if stream in self._by_stream}
        if StreamName.METRICS_MASTER not in self._by_stream:
            self._metric_reading = None

    def _open_metrics(self, transaction: Transaction, programs: Iterable[WindowProgram]) -> None:
        metrics = frozenset(program.rule.draft.condition.metric for program in programs)
        reading = self._metric_reading
        if reading is not None and reading.metrics == metrics:
            return
        if reading is not None:
            cursor, until_ms = reading.cursor, reading.judged_until_ms
        else:
            cursor, until = self._where(transaction, StreamName.METRICS_MASTER, programs)
            newest = read_arrival(until) if until else None
            # A place within a commit is for the one before it, as the tail has it.
            until_ms = -1 if newest is None else newest.received_at - (newest.tenant_id != END_OF_COMMIT)
        tail = ColumnTail(metrics, read_arrival(cursor), self._layouts)
        self._metric_reading = _MetricReading(tail, metrics, cursor, until_ms)

    def _where(
        self, transaction: Transaction, stream: StreamName, programs: Iterable[WindowProgram]
    ) -> tuple[str, str]:
        """Where reading begins, and up to where things were judged in an earlier life; empty where they were not."""
        newest = self._places[-1].cursors if self._places else {}
        if self._known or stream not in newest:
            return begin_of(transaction, stream, min(one.rule.updated_ms for one in programs)), ""
        return self._places[0].cursors.get(stream, newest[stream]), newest[stream]

    # --- writing ---------------------------------------------------------------------------------------------------------

    def settle(self, transaction: Transaction, now_ms: int) -> None:
        """Write what was found, and do what follows. Raises what the stores raise."""
        found, written = self._open.found, _Written()
        written.dropped = self._overtaken(transaction, found.states)
        findings = [one for one in found.findings if key_of(one) not in written.dropped]
        kept = {key: state for key, state in found.states.items() if key not in written.dropped}
        transaction.rule_states.save(kept.items())
        if findings:
            carry_out(transaction, findings, partial(holds_in_alert, transaction), now_ms)
        tell_failing(transaction, found.failing.values(), now_ms)
        if found.met:
            tell_limits(transaction, found.met, now_ms)
        horizon_ms = SPARE_MS + max(
            (program.shape.window_ms + program.shape.lateness_ms for program in self._programs.values()), default=0
        )
        written.places = with_place(self._places, self._place, horizon_ms)
        save_places(transaction, written.places)
        save_beginnings(transaction, self._since)
        self._written = written

    def _overtaken(self, transaction: Transaction, keys: Iterable[SeriesKey]) -> set[SeriesKey]:
        """What may not be written: of rules that were changed, and of Tenants that are not supervised or were reset meanwhile."""
        keys = set(keys)
        standings = transaction.tenants.standings_of({key.tenant_id for key in keys})
        supervised = {number for number, tenant in standings.items() if tenant.state in SUPERVISED}
        judged = supervised.difference(self._reset, transaction.rule_states.reset)
        rules = {rule_id: program.rule for rule_id, program in self._programs.items()}
        if self._stale or transaction.rules.changed:
            owners = {rules[key.rule_id].owner for key in keys}
            present = {rule.id: rule for rule in transaction.rules.active(owners)}
            rules = {rule_id: rule for rule_id, rule in present.items() if rule_id in rules and not self._changed(rule)}
        return {key for key in keys if key.tenant_id not in judged or key.rule_id not in rules}

    def committed(self) -> None:
        """What `settle` wrote is durable."""
        self._open.found, self._places, self._untold = Found(), self._written.places, False
        for key in self._written.dropped:
            self._open.states.pop(key, None)

    def refused(self) -> None:
        """It is not, or nobody knows: the streams are read again from an earlier place."""
        self._begin()
