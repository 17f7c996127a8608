"""Rules judge what arrives: once for each commit, in its transaction, before anybody is told that the samples are stored.

`RuleEvaluator` keeps in memory what the store has (rules, and where they stand with series that have crossed a limit) and writes only
what changes. What a transaction brings becomes part of its memory when it is committed; when it is not, everything is read anew.

A tick counts when it is newer than every tick of the same Tenant and layout before it, by the Tenant's clock: late ticks are stored as
samples, and judged by nobody. Ticks from the future are not judged either: they would make all that is true after them look late.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from tenantry.detection.levels import Level
from tenantry.master.domain.records import NewRecord
from tenantry.master.domain.rules import LATE_AFTER_MS, MAX_SERIES, ActionKind, Labels, Rule, SeriesState
from tenantry.master.operations import journal
from tenantry.master.operations.findings import Finding, carry_out
from tenantry.master.operations.watched_layouts import Judge, Reader, WatchedLayout, watch_layout
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.rule_states import SeriesKey
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame, FrameColumns
from tenantry.protocol.messages import NotificationLevel
from tenantry.protocol.names import MAX_REASON, tidy_text

log = structlog.get_logger()

OwnKey = tuple[int, Labels]
"""A rule's number and the labels of a series, within one Tenant."""
_NEVER_MS = -1


@dataclass(slots=True)
class _Program:
    """The active rules, and what they read of the layouts that were seen since the rules were read."""

    judges: dict[int, Judge]
    layouts: dict[int, WatchedLayout | None] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    full: set[tuple[int, int]] = field(default_factory=set)
    """Tenants and rules with as many series as a rule keeps in mind."""

    def watch(self, transaction: Transaction, layout_ids: Iterable[int]) -> set[int]:
        """Those of these layouts that a rule reads."""
        wanted = set(layout_ids)
        unknown = wanted - self.layouts.keys()
        if unknown:
            for number, layout in transaction.layouts.load(sorted(unknown)).items():
                self.layouts[number] = watch_layout(layout, self.judges.values())
        return {number for number in wanted if self.layouts.get(number) is not None}


@dataclass(slots=True)
class _Pending:
    """What a transaction changes, until it is committed."""

    newest: dict[tuple[int, int], int] = field(default_factory=dict)
    states: dict[int, dict[OwnKey, SeriesState]] = field(default_factory=dict)
    rows: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    forgotten: list[SeriesKey] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    failing: dict[int, str] = field(default_factory=dict)


class RuleEvaluator:
    """Judges frames. Not thread-safe: it belongs to whoever holds the transaction that writes."""

    def __init__(self, clock_tolerance_ms: int) -> None:
        """A tick further ahead of the Master's clock than this is not judged."""
        self._tolerance_ms = clock_tolerance_ms
        self._program: _Program | None = None
        self._newest: dict[tuple[int, int], int] = {}
        self._states: dict[int, dict[OwnKey, SeriesState]] = {}
        self._busy: set[int] = set()
        """Tenants of which even a quiet value may change something."""
        self._pending = _Pending()

    def note(self, changes: Changes) -> None:
        """A transaction was committed, with or without samples. Called before the next one begins."""
        if changes.rules:
            self._program = None
        self._forget(changes.rules_reset)

    def evaluate(
        self, transaction: Transaction, frames: Sequence[Frame], columns: Sequence[FrameColumns], received_ms: int
    ) -> None:
        """Judge frames that are being stored, and do what follows. Raises what the stores raise."""
        if self._program is None or transaction.rules.changed:
            self._load(transaction)
        self._forget(transaction.rule_states.reset)
        program = self._program
        if program is None or not program.judges:
            return
        watched = program.watch(
            transaction, {*(frame.layout_id for frame in frames), *(one.layout_id for one in columns)}
        )
        if not watched:
            return
        pending = self._pending
        self._judge(program, frames, watched, received_ms)
        for one in columns:
            if one.layout_id in watched:
                self._judge_columns(program, one, received_ms)
        if pending.forgotten:
            transaction.rule_states.forget(pending.forgotten)
            pending.forgotten = []
        if pending.rows:
            transaction.rule_states.save(pending.rows.items())
            pending.rows = {}
        if pending.findings:
            carry_out(transaction, pending.findings, self._held, received_ms)
            pending.findings = []
        if pending.failing:
            self._tell_failing(transaction, program, received_ms)

    def committed(self) -> None:
        """The transaction is durable."""
        pending, self._pending = self._pending, _Pending()
        newest = self._newest
        for key, timestamp_ms in pending.newest.items():
            if timestamp_ms > newest.get(key, _NEVER_MS):
                newest[key] = timestamp_ms
        for tenant_id, own in pending.states.items():
            self._remember(tenant_id, own)

    def refused(self) -> None:
        """The transaction failed, or nobody knows: the store is read anew before the next frames are judged."""
        self._pending = _Pending()
        self._program = None

    # --- rules and states ------------------------------------------------------------------------------------------------

    def _load(self, transaction: Transaction) -> None:
        judges: dict[int, Judge] = {}
        for rule in transaction.rules.active():
            judges[rule.id] = Judge(rule, rule.draft.condition.threshold())
        states: dict[int, dict[OwnKey, SeriesState]] = {}
        for key, state in transaction.rule_states.all():
            if key.rule_id in judges:
                states.setdefault(key.tenant_id, {})[key.rule_id, key.labels] = state
        self._program, self._states = _Program(judges), {}
        self._busy.clear()
        for tenant_id, own in states.items():
            self._remember(tenant_id, own)
        self._pending.states = {}

    def _remember(self, tenant_id: int, own: dict[OwnKey, SeriesState]) -> None:
        self._states[tenant_id] = own
        if all(state.settled for state in own.values()):
            self._busy.discard(tenant_id)
        else:
            self._busy.add(tenant_id)

    def _forget(self, tenant_ids: Iterable[int]) -> None:
        for tenant_id in tenant_ids:
            self._states.pop(tenant_id, None)
            self._busy.discard(tenant_id)

    def _held(self, tenant_id: int) -> bool:
        """Whether a finding keeps the Tenant in Alert."""
        assert self._program is not None  # noqa: S101 - set by `evaluate`, which is the only caller
        judges = self._program.judges
        own = self._pending.states.get(tenant_id, self._states.get(tenant_id, {}))
        return any(
            state.acted is not Level.CLEARED and judges[rule_id].rule.acts(ActionKind.TO_ALERT, state.acted)
            for (rule_id, _), state in own.items()
        )

    def _tell_failing(self, transaction: Transaction, program: _Program, now_ms: int) -> None:
        records: list[NewRecord] = []
        for rule_id, reason in self._pending.failing.items():
            rule = program.judges[rule_id].rule
            if rule.failing_reason == reason:
                continue
            transaction.rules.set_failing(rule_id, reason, now_ms)
            text = tidy_text(f"the rule {rule.name} is failing: {reason}", MAX_REASON)
            records.append(journal.notification(NotificationLevel.WARNING, "rules", text, now_ms))
        self._pending.failing = {}
        transaction.records.append(records)

    # --- frames ----------------------------------------------------------------------------------------------------------

    def _judge(self, program: _Program, frames: Sequence[Frame], watched: set[int], received_ms: int) -> None:
        groups: dict[int, list[Frame]] = {layout_id: [] for layout_id in watched}
        places: dict[int, list[int]] = {layout_id: [] for layout_id in watched}
        for place, frame in enumerate(frames):
            if frame.layout_id in watched:
                groups[frame.layout_id].append(frame)
                places[frame.layout_id].append(place)
        disquieting: set[int] = set()
        for layout_id, group in groups.items():
            layout = program.layouts[layout_id]
            assert layout is not None  # noqa: S101 - that is what being watched means
            disquieting.update(places[layout_id][place] for place in layout.disquieting(group))
        newest, horizon = self._pending.newest, received_ms + self._tolerance_ms
        busy, new_states = self._busy, self._pending.states
        for place, (tenant_id, layout_id, _, _, timestamps, values) in enumerate(frames):
            if layout_id not in watched:
                continue
            key = (tenant_id, layout_id)
            if place in disquieting or tenant_id in busy or tenant_id in new_states or len(timestamps) > 1:
                self._step(program, key, timestamps, memoryview(values).cast("d"), received_ms)
                continue
            timestamp_ms = timestamps[0]
            if newest.get(key, _NEVER_MS) < timestamp_ms <= horizon:
                newest[key] = timestamp_ms

    def _judge_columns(self, program: _Program, columns: FrameColumns, received_ms: int) -> None:
        layout_id, tenant_ids, times = columns.layout_id, columns.tenant_ids, columns.timestamps
        layout = program.layouts[layout_id]
        assert layout is not None  # noqa: S101 - as above
        values = memoryview(columns.values).cast("d")
        busy, newest = self._busy, self._pending.newest
        stirred = {tenant_ids[row] for row in layout.disquieting_rows(columns.values)}
        if not busy.isdisjoint(tenant_ids):
            stirred.update(busy.intersection(tenant_ids))
        stirred.update(self._pending.states.keys() & tenant_ids)
        horizon = received_ms + self._tolerance_ms
        for row, (tenant_id, timestamp_ms) in enumerate(zip(tenant_ids, times, strict=True)):
            key = (tenant_id, layout_id)
            if tenant_id in stirred:
                start = row * layout.width
                self._step(program, key, (timestamp_ms,), values[start : start + layout.width], received_ms)
            elif newest.get(key, _NEVER_MS) < timestamp_ms <= horizon:
                newest[key] = timestamp_ms

    def _step(
        self,
        program: _Program,
        key: tuple[int, int],
        timestamps: Sequence[int],
        values: "memoryview[float]",
        received_ms: int,
    ) -> None:
        """Judge the ticks of one frame that may have something to do."""
        tenant_id, layout_id = key
        layout = program.layouts[layout_id]
        assert layout is not None  # noqa: S101 - as above
        pending = self._pending
        newest_ms = max(pending.newest.get(key, _NEVER_MS), self._newest.get(key, _NEVER_MS))
        horizon = received_ms + self._tolerance_ms
        own = pending.states.get(tenant_id)
        if own is None:
            own = dict(self._states.get(tenant_id, ()))
        for tick, timestamp_ms in enumerate(timestamps):
            if not newest_ms < timestamp_ms <= horizon:
                continue
            newest_ms = timestamp_ms
            start = tick * layout.width
            for place, floor, ceiling, readers in layout.columns:
                value = values[start + place]
                # A NaN is the one value that differs from itself.
                if value != value or (not own and floor < value < ceiling):
                    continue
                for reader in readers:
                    self._take(program, tenant_id, own, reader, value, timestamp_ms, received_ms)
        pending.newest[key] = newest_ms
        if own or tenant_id in self._states:
            pending.states[tenant_id] = own

    def _take(
        self,
        program: _Program,
        tenant_id: int,
        own: dict[OwnKey, SeriesState],
        reader: Reader,
        value: float,
        timestamp_ms: int,
        received_ms: int,
    ) -> None:
        """One value for one rule."""
        (rule, threshold), labels = reader
        key = (rule.id, labels)
        state = own.get(key)
        if (state is None or state.settled) and threshold.floor < value < threshold.ceiling:
            return
        if rule.id in program.broken or (state is None and not self._has_room(program, tenant_id, own, rule)):
            return
        before = state or SeriesState(threshold.initial)
        try:
            states = threshold.step(before.states, value, timestamp_ms)
        except Exception as error:  # one rule that cannot judge must stop neither the ingest nor another rule
            log.error("rule failed", rule=rule.name, exc_info=error)
            program.broken.add(rule.id)
            self._pending.failing[rule.id] = f"it cannot judge: {type(error).__name__}"
            return
        level = threshold.level(states)
        late = received_ms - timestamp_ms > LATE_AFTER_MS
        after = SeriesState(
            states,
            level,
            before.level_since_ms if level is before.level else timestamp_ms,
            before.acted if late else level,
        )
        own[key] = after
        if after.level is not before.level or after.acted is not before.acted:
            self._pending.findings.append(
                Finding(rule, tenant_id, labels, timestamp_ms, value, before.level, level, before.acted, after.acted)
            )
        elif all(
            new.phase is old.phase and new.since_ms == old.since_ms
            for new, old in zip(states, before.states, strict=True)
        ):
            # Nothing but the time of the newest value has moved on, which is not worth a row.
            return
        self._pending.rows[SeriesKey(tenant_id, rule.id, labels)] = after

    def _has_room(self, program: _Program, tenant_id: int, own: dict[OwnKey, SeriesState], rule: Rule) -> bool:
        """Whether the rule may keep one more series of the Tenant in mind; settled ones make room."""
        if (tenant_id, rule.id) in program.full:
            return False
        kept = [key for key in own if key[0] == rule.id] if len(own) >= MAX_SERIES else []
        if len(kept) < MAX_SERIES:
            return True
        settled = [key for key in kept if own[key].settled]
        for key in settled:
            del own[key]
            gone = SeriesKey(tenant_id, *key)
            self._pending.rows.pop(gone, None)
            self._pending.forgotten.append(gone)
        if not settled:
            program.full.add((tenant_id, rule.id))
            self._pending.failing[rule.id] = (
                f"of one Tenant more than {MAX_SERIES} series are beyond its thresholds; the others are not judged"
            )
        return bool(settled)
