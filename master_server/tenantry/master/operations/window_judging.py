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

import structlog

from tenantry.detection.aggregates import WindowFull
from tenantry.detection.windows import MAX_CATEGORIES, Admission, Category, Judged, TenantWindows
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.lifecycle import SUPERVISED
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import Rule, SeriesState
from tenantry.master.operations.failing_rules import tell_failing
from tenantry.master.operations.findings import Finding, carry_out
from tenantry.master.operations.following import Tail, open_tail
from tenantry.master.operations.holding import holds_in_alert
from tenantry.master.operations.limits_met import LimitMet, tell_limits, too_many_series
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import ReadRecord, RecordFilter
from tenantry.master.operations.window_places import (
    INTERVAL_MS,
    Place,
    begin_of,
    load_places,
    order_of,
    save_places,
    with_place,
)
from tenantry.master.operations.window_programs import WindowProgram, compile_window, row_of
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.rule_states import SeriesKey
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure

SPARE_MS: Final = 600_000
"""So much further back than the longest window reading begins after a restart."""
STEPS_A_LOOK: Final = 20
GRACE_MS: Final = 1_000
"""What has happened a moment ago may still be on its way into the store."""

log = structlog.get_logger()

CaughtUp = Callable[[int, int], bool]
"""Whether a Tenant (the store's number) is connected and holds nothing back of what happened up to a time (Unix ms)."""

_SENT: Final = frozenset({StreamName.ALERTS_MASTER, StreamName.NOTIFICATIONS_MASTER})
"""Streams that come from Tenants: the others are complete when the Master has written them."""


@dataclass(slots=True)
class _Reading:
    """One stream that rules read."""

    tail: Tail
    metrics: frozenset[str]
    cursor: str = ""
    judged_until: tuple[int, ...] = ()
    """What lies up to here was judged in an earlier life."""


@dataclass(slots=True)
class _Pending:
    """What was found and is not written yet; then what a transaction makes of it, until it is committed."""

    states: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    failing: dict[int, tuple[Rule, str]] = field(default_factory=dict)
    met: list[LimitMet] = field(default_factory=list)
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
        self._readers: dict[tuple[StreamName, str], list[WindowProgram]] = {}
        """By stream and metric: a record is shown to those alone that may want it."""
        self._readings: dict[StreamName, _Reading] = {}
        self._windows: dict[tuple[int, int], TenantWindows] = {}
        self._states: dict[SeriesKey, SeriesState] = {}
        self._broken: set[int] = set()
        self._full: set[tuple[int, int]] = set()
        """Rules and Tenants of which it was told that there is more than is kept."""
        self._places: list[Place] = []
        self._place = Place(0, {})
        self._pending = _Pending()

    @property
    def streams(self) -> frozenset[StreamName]:
        """Those that rules read now."""
        return frozenset(self._by_stream)

    @property
    def idle(self) -> bool:
        """Whether there is no rule over windows, and none has come."""
        return self._known and not (self._programs or self._stale or self._pending.failing)

    def note(self, changes: Changes) -> None:
        """A transaction was committed."""
        self._stale.update(changes.rules)
        self._reset.update(changes.rules_reset)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def look(self, transaction: Transaction, caught_up: CaughtUp, now_ms: int) -> bool:
        """Read what has come; whether there is more to read at once. Raises StoreUnavailable."""
        self._follow(transaction)
        more = False
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
            self._watch_clock(caught_up, now_ms)
        cursors = {stream: reading.cursor for stream, reading in self._readings.items()}
        self._place = Place(now_ms, cursors)
        return more

    @property
    def due(self) -> bool:
        """Whether `settle` has something to write."""
        behind = not self._places or self._place.at_ms - self._places[-1].at_ms >= INTERVAL_MS
        pending = self._pending
        return bool(pending.states or pending.failing) or (bool(self._readings) and behind)

    def _take(self, stream: StreamName, reading: _Reading, record: ReadRecord, now_ms: int) -> None:
        tenant = record.tenant
        if tenant is None or record.timestamp_ms > now_ms + self._tolerance_ms:
            return
        again = bool(reading.judged_until) and order_of(stream, record.cursor) <= reading.judged_until
        programs = self._readers.get(
            (stream, str(record.fields["metric"]) if stream is StreamName.METRICS_MASTER else ""), ()
        )
        row = row_of(stream, record) if programs else {}
        for program in programs:
            rule = program.rule
            if rule.id in self._broken or rule.owner not in (MAIN_OWNER, tenant.id):
                continue
            try:
                counted = program.read(row)
            except Failure as failure:
                self._fail(rule, str(failure))
                continue
            windows = self._windows.get((rule.id, tenant.id))
            if windows is None:
                if counted is None:
                    continue
                windows = self._windows[rule.id, tenant.id] = TenantWindows(program.shape)
            if counted is None:
                windows.hear(record.timestamp_ms)
            elif windows.add(record.timestamp_ms, *counted) is Admission.FULL:
                self._tell_full(rule, tenant.id)
            if windows.due:
                self._close(program, tenant.id, windows, None if again else now_ms)

    def _tell_full(self, rule: Rule, tenant_id: int) -> None:
        if (rule.id, tenant_id) in self._full:
            return
        self._full.add((rule.id, tenant_id))
        reason = "of one Tenant it sees more categories or values than it keeps; the others do not count"
        self._pending.failing[rule.id] = rule, reason
        self._pending.met.append(too_many_series(rule.name, tenant_id, MAX_CATEGORIES, "categories and sets of values"))

    def _watch_clock(self, caught_up: CaughtUp, now_ms: int) -> None:
        for (rule_id, tenant_id), windows in self._windows.items():
            program = self._programs[rule_id]
            stream = program.rule.draft.condition.stream
            if stream is StreamName.METRICS_MASTER or rule_id in self._broken:
                continue
            if windows.judged_ms is None:
                windows.begin(self._last_change_ms(rule_id, tenant_id))
            watermark_ms = now_ms - GRACE_MS - program.shape.lateness_ms
            if stream not in _SENT or caught_up(tenant_id, watermark_ms):
                self._close(program, tenant_id, windows, now_ms, watermark_ms)

    def _last_change_ms(self, rule_id: int, tenant_id: int) -> int:
        found = [state for key, state in self._states.items() if (key.rule_id, key.tenant_id) == (rule_id, tenant_id)]
        return max(one.last_ms for state in found for one in state.states)

    def _close(
        self,
        program: WindowProgram,
        tenant_id: int,
        windows: TenantWindows,
        now_ms: int | None,
        watermark_ms: int | None = None,
    ) -> None:
        """Judge the windows that have closed; without ``now_ms`` they were judged in an earlier life."""
        states, rule = self._states, program.rule

        def unsettled(category: Category) -> bool:
            state = states.get(SeriesKey(tenant_id, rule.id, program.labels(category)))
            return state is not None and not state.settled

        try:
            for judged in windows.advance(unsettled, watermark_ms):
                if now_ms is not None:
                    self._step(program, tenant_id, judged, now_ms)
        except WindowFull:
            self._fail(rule, "a window has more values than are kept")
        except Failure as failure:
            self._fail(rule, str(failure))

    def _step(self, program: WindowProgram, tenant_id: int, judged: Judged, now_ms: int) -> None:
        end_ms, category, values = judged
        rule, threshold, value = program.rule, program.threshold, values[program.place]
        key = SeriesKey(tenant_id, rule.id, program.labels(category))
        known = self._states.get(key)
        if (known is None or known.settled) and (value is None or threshold.floor < value < threshold.ceiling):
            return
        before = known or SeriesState(threshold.initial)
        if program.passes(category, values):
            states = threshold.step(before.states, value, end_ms)
        else:
            states = threshold.calm(before.states, end_ms)
        level = threshold.level(states)
        late = now_ms - end_ms > rule.draft.condition.late_after_ms
        after = SeriesState(
            states,
            level,
            before.level_since_ms if level is before.level else end_ms,
            before.acted if late else level,
        )
        waits = any(
            new.phase is not old.phase or new.since_ms != old.since_ms
            for new, old in zip(states, before.states, strict=True)
        )
        found = after.level is not before.level or after.acted is not before.acted
        if not (waits or found):
            return
        self._states[key] = self._pending.states[key] = after
        if found:
            self._pending.findings.append(
                Finding(rule, tenant_id, key.labels, end_ms, value, before.level, level, before.acted, after.acted)
            )

    def _fail(self, rule: Rule, reason: str) -> None:
        log.warning("rule failed", rule=rule.name, reason=reason)
        self._broken.add(rule.id)
        self._pending.failing[rule.id] = rule, reason

    # --- rules -----------------------------------------------------------------------------------------------------------

    def _follow(self, transaction: Transaction) -> None:
        """Read what was changed of rules since they were read."""
        reset, self._reset = self._reset, set()
        if reset:
            self._forget_tenants(reset)
        if self._known and not self._stale:
            return
        self._stale = set()
        owners = transaction.rules.judging()
        active = {rule.id: rule for rule in transaction.rules.active(owners) if rule.draft.condition.window is not None}
        for rule_id in [one for one in self._programs if one not in active or self._changed(active[one])]:
            self._drop(rule_id)
        for rule in active.values():
            if rule.id not in self._programs:
                self._learn(transaction, rule)
        self._by_stream, self._readers = {}, {}
        for program in self._programs.values():
            condition = program.rule.draft.condition
            self._by_stream.setdefault(condition.stream, []).append(program)
            self._readers.setdefault((condition.stream, condition.metric), []).append(program)
        self._open_streams(transaction)
        self._known = True

    def _changed(self, rule: Rule) -> bool:
        known = self._programs[rule.id].rule
        return (known.draft.condition, known.draft.actions) != (rule.draft.condition, rule.draft.actions)

    def _learn(self, transaction: Transaction, rule: Rule) -> None:
        try:
            program = compile_window(rule)
        except Failure as failure:
            self._pending.failing[rule.id] = rule, str(failure)
            return
        self._programs[rule.id] = program
        for key, state in transaction.rule_states.of_rule(rule.id):
            self._states[key] = state
            if not state.settled:
                place = rule.id, key.tenant_id
                self._windows.setdefault(place, TenantWindows(program.shape)).expect(program.category(key.labels))

    def _drop(self, rule_id: int) -> None:
        del self._programs[rule_id]
        self._broken.discard(rule_id)
        self._full = {one for one in self._full if one[0] != rule_id}
        self._windows = {key: windows for key, windows in self._windows.items() if key[0] != rule_id}
        self._forget(lambda key: key.rule_id == rule_id)

    def _forget_tenants(self, tenant_ids: Iterable[int]) -> None:
        gone = frozenset(tenant_ids)
        self._windows = {key: windows for key, windows in self._windows.items() if key[1] not in gone}
        self._forget(lambda key: key.tenant_id in gone)

    def _forget(self, gone: Callable[[SeriesKey], bool]) -> None:
        pending = self._pending
        self._states = {key: state for key, state in self._states.items() if not gone(key)}
        pending.states = {key: state for key, state in pending.states.items() if not gone(key)}
        pending.findings = [one for one in pending.findings if not gone(_key_of(one))]

    def _open_streams(self, transaction: Transaction) -> None:
        if not self._known:
            self._places = load_places(transaction)
        first = self._places[0].cursors if self._places else {}
        newest = self._places[-1].cursors if self._places else {}
        for stream, programs in self._by_stream.items():
            metrics = frozenset(one for one in (program.rule.draft.condition.metric for program in programs) if one)
            reading = self._readings.get(stream)
            if reading is not None and reading.metrics == metrics:
                continue
            wanted = RecordFilter(stream, metrics=metrics)
            if reading is not None:
                cursor, until = reading.cursor, reading.judged_until
            elif self._known or stream not in newest:
                cursor, until = begin_of(transaction, stream, min(one.rule.updated_ms for one in programs)), ()
            else:
                cursor = first.get(stream, newest[stream])
                until = order_of(stream, newest[stream])
            tail = open_tail(wanted, cursor, 0, self._layouts)
            self._readings[stream] = _Reading(tail, metrics, cursor, until)
        for stream in [stream for stream in self._readings if stream not in self._by_stream]:
            del self._readings[stream]

    # --- writing ---------------------------------------------------------------------------------------------------------

    def settle(self, transaction: Transaction, now_ms: int) -> None:
        """Write what was found, and do what follows. Raises what the stores raise."""
        pending = self._pending
        pending.dropped = self._overtaken(transaction, pending.states)
        findings = [one for one in pending.findings if _key_of(one) not in pending.dropped]
        kept = {key: state for key, state in pending.states.items() if key not in pending.dropped}
        transaction.rule_states.save(kept.items())
        if findings:
            carry_out(transaction, findings, partial(holds_in_alert, transaction), now_ms)
        tell_failing(transaction, pending.failing.values(), now_ms)
        if pending.met:
            tell_limits(transaction, pending.met, now_ms)
        horizon_ms = SPARE_MS + max(
            (program.shape.window_ms + program.shape.lateness_ms for program in self._programs.values()), default=0
        )
        pending.places = with_place(self._places, self._place, horizon_ms)
        save_places(transaction, pending.places)

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
        pending, self._pending = self._pending, _Pending()
        self._places = pending.places
        for key in pending.dropped:
            self._states.pop(key, None)

    def refused(self) -> None:
        """It is not, or nobody knows: the streams are read again from an earlier place."""
        self._begin()


def _key_of(finding: Finding) -> SeriesKey:
    return SeriesKey(finding.tenant_id, finding.rule.id, finding.labels)
