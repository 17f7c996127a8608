"""Rules judge what arrives: once for each commit, in its transaction, before anybody is told that the samples are stored.

`RuleEvaluator` keeps in memory what the store has (rules, and where they stand with series that have crossed a limit) and writes only
what changes. What a transaction brings becomes part of its memory when it is committed; when it is not, everything is read anew.

Frames are judged by the rules of the main tenant, which are few and screen a whole commit at once, and by those of their own Tenant,
which are read when it is first heard: what other Tenants have costs a commit nothing.

A tick counts when it is newer than every tick of the same Tenant and layout before it, by the Tenant's clock: late ticks are stored as
samples, and judged by nobody. Ticks from the future are not judged either: they would make all that is true after them look late.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.rules import LATE_AFTER_MS, MAX_SERIES, ActionKind, Labels, Rule, SeriesState
from tenantry.master.operations.failing_rules import tell_failing
from tenantry.master.operations.findings import Finding, carry_out
from tenantry.master.operations.holding import holds_in_alert
from tenantry.master.operations.limits_met import LimitMet, tell_limits, too_many_series
from tenantry.master.operations.rule_programs import Part, RuleProgram, RulePrograms
from tenantry.master.operations.watched_layouts import Reader
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.rule_states import SeriesKey, StoredState
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame, FrameColumns

log = structlog.get_logger()

OwnKey = tuple[int, Labels]
"""A rule's number and the labels of a series, within one Tenant."""
_NEVER_MS = -1


@dataclass(slots=True)
class _Pending:
    """What a transaction changes, until it is committed."""

    newest: dict[tuple[int, int], int] = field(default_factory=dict)
    states: dict[int, dict[OwnKey, SeriesState]] = field(default_factory=dict)
    rows: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    forgotten: list[SeriesKey] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    failing: dict[int, tuple[Rule, str]] = field(default_factory=dict)
    met: list[LimitMet] = field(default_factory=list)


class RuleEvaluator:
    """Judges frames. Not thread-safe: it belongs to whoever holds the transaction that writes."""

    def __init__(self, clock_tolerance_ms: int) -> None:
        """A tick further ahead of the Master's clock than this is not judged."""
        self._tolerance_ms = clock_tolerance_ms
        self._programs = RulePrograms()
        self._newest: dict[tuple[int, int], int] = {}
        self._states: dict[int, dict[OwnKey, SeriesState]] = {}
        self._busy: set[int] = set()
        """Tenants of which even a quiet value may change something."""
        self._pending = _Pending()

    def note(self, changes: Changes) -> None:
        """A transaction was committed, with or without samples. Called before the next one begins."""
        self._programs.note(changes.rules)
        self._forget(changes.rules_reset)

    def evaluate(
        self, transaction: Transaction, frames: Sequence[Frame], columns: Sequence[FrameColumns], received_ms: int
    ) -> None:
        """Judge frames that are being stored, and do what follows. Raises what the stores raise."""
        programs = self._programs
        self._follow(transaction)
        self._forget(transaction.rule_states.reset)
        if not (programs.main.judges or programs.own):
            return
        main, watched = programs.main, programs.watch(transaction, frames, columns)
        own = programs.watch_own(transaction, frames, columns) if programs.own else {}
        if not (watched or own):
            return
        pending = self._pending
        if frames:
            self._judge(main, frames, watched, own, received_ms)
        for one in columns:
            self._judge_columns(main, one, own, received_ms)
        if pending.forgotten:
            transaction.rule_states.forget(pending.forgotten)
            pending.forgotten = []
        if pending.rows:
            transaction.rule_states.save(pending.rows.items())
            pending.rows = {}
        if pending.findings:
            carry_out(transaction, pending.findings, partial(self._held, transaction), received_ms)
            pending.findings = []
        if pending.failing:
            tell_failing(transaction, pending.failing.values(), received_ms)
            pending.failing = {}
        if pending.met:
            tell_limits(transaction, pending.met, received_ms)
            pending.met = []

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
        self._programs.forget()

    # --- rules and states ------------------------------------------------------------------------------------------------

    def _follow(self, transaction: Transaction) -> None:
        """Read what was changed of rules since they were read, and where they stand."""
        changed = self._programs.follow(transaction)
        if MAIN_OWNER in changed:
            self._states, self._pending.states = {}, {}
            self._busy.clear()
            self._recall(transaction.rule_states.all())
        elif changed:
            self._forget(changed)
            for tenant_id in changed:
                self._pending.states.pop(tenant_id, None)
            self._recall(transaction.rule_states.of_tenants(changed))

    def _recall(self, stored: Iterable[StoredState]) -> None:
        states: dict[int, dict[OwnKey, SeriesState]] = {}
        elsewhere = self._programs.windowed()
        for key, state in stored:
            if key.rule_id not in elsewhere:
                states.setdefault(key.tenant_id, {})[key.rule_id, key.labels] = state
        for tenant_id, own in states.items():
            self._remember(tenant_id, own)

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

    def _held(self, transaction: Transaction, tenant_id: int) -> bool:
        """Whether a finding keeps the Tenant in Alert."""
        if self._programs.windowed(tenant_id) and holds_in_alert(transaction, tenant_id):
            return True
        own = self._pending.states.get(tenant_id, self._states.get(tenant_id, {}))
        programs = self._programs.of(tenant_id)
        return any(
            state.acted is not Level.CLEARED and program.judges[rule_id].rule.acts(ActionKind.TO_ALERT, state.acted)
            for (rule_id, _), state in own.items()
            for program in programs
            if rule_id in program.judges
        )

    # --- frames ----------------------------------------------------------------------------------------------------------

    def _judge(
        self,
        main: RuleProgram,
        frames: Sequence[Frame],
        watched: set[int],
        own: dict[tuple[int, int], Part],
        received_ms: int,
    ) -> None:
        disquieting = _disquieting(main, frames, watched)
        newest, horizon = self._pending.newest, received_ms + self._tolerance_ms
        busy, new_states = self._busy, self._pending.states
        for place, frame in enumerate(frames):
            tenant_id, layout_id, _, _, timestamps, values = frame
            key = (tenant_id, layout_id)
            part = own.get(key) if own else None
            if layout_id not in watched and part is None:
                continue
            if (
                place in disquieting
                or tenant_id in busy
                or tenant_id in new_states
                or len(timestamps) > 1
                or (part is not None and part[1].has_disquiet(memoryview(values).cast("d")))
            ):
                self._step(_parts(main, part, layout_id), key, timestamps, memoryview(values).cast("d"), received_ms)
                continue
            timestamp_ms = timestamps[0]
            if newest.get(key, _NEVER_MS) < timestamp_ms <= horizon:
                newest[key] = timestamp_ms

    def _judge_columns(
        self, main: RuleProgram, columns: FrameColumns, own: dict[tuple[int, int], Part], received_ms: int
    ) -> None:
        layout_id, tenant_ids = columns.layout_id, columns.tenant_ids
        seen = main.layouts.get(layout_id)
        values = memoryview(columns.values).cast("d")
        width = len(values) // len(tenant_ids)
        busy, newest = self._busy, self._pending.newest
        stirred = set() if seen is None else {tenant_ids[row] for row in seen.disquieting_rows(columns.values)}
        if not busy.isdisjoint(tenant_ids):
            stirred.update(busy.intersection(tenant_ids))
        stirred.update(self._pending.states.keys() & tenant_ids)
        rows: Iterable[tuple[int, tuple[int, int]]] = enumerate(zip(tenant_ids, columns.timestamps, strict=True))
        if own:
            mine = [(row, own.get((tenant_id, layout_id))) for row, tenant_id in enumerate(tenant_ids)]
            stirred.update(
                tenant_ids[row]
                for row, part in mine
                if part is not None and part[1].has_disquiet(values[row * width : (row + 1) * width])
            )
            if seen is None:
                rows = [entry for entry, (_, part) in zip(rows, mine, strict=True) if part is not None]
        elif seen is None:
            return
        horizon = received_ms + self._tolerance_ms
        for row, (tenant_id, timestamp_ms) in rows:
            key = (tenant_id, layout_id)
            if tenant_id in stirred:
                parts = _parts(main, own.get(key), layout_id)
                self._step(parts, key, (timestamp_ms,), values[row * width : (row + 1) * width], received_ms)
            elif newest.get(key, _NEVER_MS) < timestamp_ms <= horizon:
                newest[key] = timestamp_ms

    def _step(
        self,
        parts: Sequence[Part],
        key: tuple[int, int],
        timestamps: Sequence[int],
        values: "memoryview[float]",
        received_ms: int,
    ) -> None:
        """Judge the ticks of one frame that may have something to do."""
        tenant_id = key[0]
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
            for program, layout in parts:
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
        program: RuleProgram,
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
            self._pending.failing[rule.id] = rule, f"it cannot judge: {type(error).__name__}"
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

    def _has_room(self, program: RuleProgram, tenant_id: int, own: dict[OwnKey, SeriesState], rule: Rule) -> bool:
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
            reason = f"of one Tenant more than {MAX_SERIES} series are beyond its thresholds; the others are not judged"
            self._pending.failing[rule.id] = rule, reason
            self._pending.met.append(
                too_many_series(rule.name, tenant_id, MAX_SERIES, "series that are beyond its thresholds")
            )
        return bool(settled)


def _parts(main: RuleProgram, own: Part | None, layout_id: int) -> list[Part]:
    """Whose rules read a frame of this layout, and what."""
    seen = main.layouts.get(layout_id)
    parts: list[Part] = [] if seen is None else [(main, seen)]
    if own is not None:
        parts.append(own)
    return parts


def _disquieting(main: RuleProgram, frames: Sequence[Frame], watched: set[int]) -> set[int]:
    """The places of those frames in which a rule of the main tenant finds a value that is not quiet."""
    groups: dict[int, list[Frame]] = {layout_id: [] for layout_id in watched}
    places: dict[int, list[int]] = {layout_id: [] for layout_id in watched}
    for place, frame in enumerate(frames):
        if frame.layout_id in watched:
            groups[frame.layout_id].append(frame)
            places[frame.layout_id].append(place)
    disquieting: set[int] = set()
    for layout_id, group in groups.items():
        layout = main.layouts[layout_id]
        assert layout is not None  # noqa: S101 - that is what being watched means
        disquieting.update(places[layout_id][place] for place in layout.disquieting(group))
    return disquieting
