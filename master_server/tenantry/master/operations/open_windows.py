"""The windows of rules that are open now, the states behind them, and what was found and is not written yet."""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from tenantry.detection.aggregates import WindowFull
from tenantry.detection.windows import MAX_CATEGORIES, Admission, Category, Judged, TenantWindows
from tenantry.master.domain.rules import Rule, SeriesState
from tenantry.master.operations.findings import Finding
from tenantry.master.operations.limits_met import LimitMet, too_many_series
from tenantry.master.operations.window_programs import Counted, WindowProgram
from tenantry.master.sql.rule_states import SeriesKey
from tenantry.protocol.failures import Failure

log = structlog.get_logger()


@dataclass(slots=True)
class Found:
    """What was found and is not written yet."""

    states: dict[SeriesKey, SeriesState] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    failing: dict[int, tuple[Rule, str]] = field(default_factory=dict)
    met: list[LimitMet] = field(default_factory=list)


class OpenWindows:
    """By rule and Tenant (the store's numbers). Counts records, judges what closes, and keeps what was found."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self.of_rules: dict[int, dict[int, TenantWindows]] = {}
        self.states: dict[SeriesKey, SeriesState] = {}
        self.broken: set[int] = set()
        """Rules that could not judge."""
        self.found = Found()
        self._full: set[tuple[int, int]] = set()
        """Rules and Tenants of which it was told that there is more than is kept."""

    def of(self, rule_id: int) -> dict[int, TenantWindows]:
        """The windows of a rule, by Tenant."""
        return self.of_rules.setdefault(rule_id, {})

    def learn(self, program: WindowProgram, key: SeriesKey, state: SeriesState) -> None:
        """What a rule's state was in an earlier life."""
        self.states[key] = state
        if not state.settled:
            windows = self.of(key.rule_id).setdefault(key.tenant_id, TenantWindows(program.shape))
            windows.expect(program.category(key.labels))

    def count(
        self, program: WindowProgram, tenant_id: int, timestamp_ms: int, counted: Counted | None, now_ms: int | None
    ) -> bool:
        """Count in a record, or None where it does not count; says whether windows have closed.

        Without ``now_ms`` they were judged in an earlier life.
        """
        own = self.of(program.rule.id)
        windows = own.get(tenant_id)
        if windows is None:
            if counted is None:
                return False
            windows = own[tenant_id] = TenantWindows(program.shape)
        if counted is None:
            windows.hear(timestamp_ms)
        elif windows.add(timestamp_ms, *counted) is Admission.FULL:
            self._tell_full(program.rule, tenant_id)
        if not windows.due:
            return False
        self.close(program, tenant_id, windows, now_ms)
        return True

    def close(
        self,
        program: WindowProgram,
        tenant_id: int,
        windows: TenantWindows,
        now_ms: int | None,
        watermark_ms: int | None = None,
    ) -> None:
        """Judge the windows that have closed; without ``now_ms`` they were judged in an earlier life."""
        try:
            for judged in windows.advance(self.unsettled(program, tenant_id), watermark_ms):
                if now_ms is not None:
                    self._step(program, tenant_id, judged, now_ms)
        except WindowFull:
            self.fail(program.rule, "a window has more values than are kept")
        except Failure as failure:
            self.fail(program.rule, str(failure))

    def unsettled(self, program: WindowProgram, tenant_id: int) -> Callable[[Category], bool]:
        """Whether something stands or waits in a category of a Tenant."""
        states, rule_id = self.states, program.rule.id

        def unsettled(category: Category) -> bool:
            state = states.get(SeriesKey(tenant_id, rule_id, program.labels(category)))
            return state is not None and not state.settled

        return unsettled

    def fail(self, rule: Rule, reason: str) -> None:
        """The rule judges nothing until it is changed, or the Master starts anew."""
        log.warning("rule failed", rule=rule.name, reason=reason)
        self.broken.add(rule.id)
        self.found.failing[rule.id] = rule, reason

    def drop_rule(self, rule_id: int) -> None:
        """Forget a rule."""
        self.broken.discard(rule_id)
        self._full = {one for one in self._full if one[0] != rule_id}
        self.of_rules.pop(rule_id, None)
        self._forget(lambda key: key.rule_id == rule_id)

    def drop_tenants(self, tenant_ids: frozenset[int]) -> None:
        """Forget what was found of Tenants, and what is open."""
        for own in self.of_rules.values():
            for tenant_id in tenant_ids & own.keys():
                del own[tenant_id]
        self._forget(lambda key: key.tenant_id in tenant_ids)

    def _tell_full(self, rule: Rule, tenant_id: int) -> None:
        if (rule.id, tenant_id) in self._full:
            return
        self._full.add((rule.id, tenant_id))
        reason = "of one Tenant it sees more categories or values than it keeps; the others do not count"
        self.found.failing[rule.id] = rule, reason
        self.found.met.append(too_many_series(rule.name, tenant_id, MAX_CATEGORIES, "categories and sets of values"))

    def _forget(self, gone: Callable[[SeriesKey], bool]) -> None:
        found = self.found
        self.states = {key: state for key, state in self.states.items() if not gone(key)}
        found.states = {key: state for key, state in found.states.items() if not gone(key)}
        found.findings = [one for one in found.findings if not gone(key_of(one))]

    def _step(self, program: WindowProgram, tenant_id: int, judged: Judged, now_ms: int) -> None:
        end_ms, category, values = judged
        rule, threshold, value = program.rule, program.threshold, values[program.place]
        key = SeriesKey(tenant_id, rule.id, program.labels(category))
        known = self.states.get(key)
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
        self.states[key] = self.found.states[key] = after
        if found:
            self.found.findings.append(
                Finding(rule, tenant_id, key.labels, end_ms, value, before.level, level, before.acted, after.acted)
            )


def key_of(finding: Finding) -> SeriesKey:
    """The series that a finding is about."""
    return SeriesKey(finding.tenant_id, finding.rule.id, finding.labels)
