"""What it brings about when a rule finds something: alerts, and moves of the life cycle. Work inside a transaction.

A rule moves a Tenant to Alert when a series comes to a worse level, and back to Active only when a rule had put it there and no
series holds it there any more. What an operator decides stands: a finding acts again after it was over, or got worse.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.alerts import AlertSource, Firing, RecordCopy
from tenantry.master.domain.lifecycle import LIFECYCLE, SUPERVISED, LifecycleEvent
from tenantry.master.domain.records import JsonValue
from tenantry.master.domain.rules import LATE_AFTER_MS, ActionKind, Labels, Rule
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alerting import News
from tenantry.master.sql.rule_states import StoredState
from tenantry.master.sql.transaction import Transaction
from tenantry.process.durations import format_milliseconds
from tenantry.protocol.messages import TenantState
from tenantry.protocol.names import MAX_REASON

_MOVES: Final = {
    ActionKind.TO_ALERT: LifecycleEvent.RULE_ALERTED,
    ActionKind.TO_ACTIVE: LifecycleEvent.RULE_CALMED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A series comes to another level (``before``, ``after``), or the Tenant is moved for it (``acted_before``, ``acted_after``).

    ``value`` is None where no sample brought it about, and ``ended_by`` then says what did.
    """

    rule: Rule
    tenant_id: int
    labels: Labels
    timestamp_ms: int
    value: float | None
    before: Level
    after: Level
    acted_before: Level
    acted_after: Level
    ended_by: str = ""

    def describe(self) -> str:
        """For people: what was found. Its parts were checked when they came in."""
        condition = self.rule.draft.condition
        subject = condition.metric + "".join(f" {name}={value}" for name, value in self.labels)
        if self.value is None:
            return f"{subject}: {self.ended_by}"[:MAX_REASON]
        limit = condition.limits.get(self.after)
        if limit is None:
            return f"{subject} is {self.value:g}: over"[:MAX_REASON]
        lasting = f" for {format_milliseconds(condition.for_ms)}" if condition.for_ms else ""
        level = self.after.name.lower()
        return f"{subject} is {self.value:g} ({level}: {limit.operator} {limit.value:g}{lasting})"[:MAX_REASON]


def carry_out(
    transaction: Transaction, findings: Sequence[Finding], held: Callable[[int], bool], received_ms: int
) -> None:
    """Write down and do what follows from findings, in their order.

    ``held`` says whether a finding that stands now keeps the Tenant of this number in Alert.
    """
    concerned = {finding.tenant_id for finding in findings}
    tenants = transaction.tenants.standings_of(concerned)
    states = {number: tenant.state for number, tenant in tenants.items() if tenant.state in SUPERVISED}
    by_rules = transaction.rule_states.held(concerned)
    moved: dict[int, tuple[TenantState, str]] = {}
    news = News()
    for finding in findings:
        number = finding.tenant_id
        before = states.get(number)
        if before is None:
            continue
        tenant = tenants[number]
        firing = firing_of(finding, received_ms)
        if firing is not None:
            news.firings.append(firing)
        kind = _move(finding)
        if kind is None or (kind is ActionKind.TO_ACTIVE and (number not in by_rules or held(number))):
            continue
        after = LIFECYCLE.get((before, _MOVES[kind]))
        if after is None:
            continue
        reason = finding.describe()
        actor = Actor("rule", finding.rule.name)
        news.records.append(journal.state_changed(tenant, before, after, actor, reason, received_ms))
        states[number], moved[number] = after, (after, reason)
        (by_rules.add if after is TenantState.ALERT else by_rules.discard)(number)
    transaction.tenants.move_each(moved, received_ms)
    transaction.rule_states.hold([number for number in moved if number in by_rules], received_ms)
    transaction.rule_states.release([number for number in moved if number not in by_rules])
    news.write(transaction, received_ms)


def end_findings(states: Iterable[StoredState], rules: Mapping[int, Rule], why: str, now_ms: int) -> list[Finding]:
    """The findings that end these states for another reason than a value. The states themselves stay."""
    return [
        Finding(
            rules[key.rule_id],
            key.tenant_id,
            key.labels,
            now_ms,
            None,
            state.level,
            Level.CLEARED,
            state.acted,
            Level.CLEARED,
            why,
        )
        for key, state in states
        if key.rule_id in rules and (state.level is not Level.CLEARED or state.acted is not Level.CLEARED)
    ]


def follow_moves(
    transaction: Transaction, moves: Sequence[tuple[int, TenantState]], after: TenantState, now_ms: int
) -> None:
    """Operators have moved Tenants (the store's number, the state before): no rule holds these in Alert any more.

    In Maintenance nothing is judged: what was found there is over, and what waits begins anew when it is left. To be called before the
    new state is saved.
    """
    transaction.rule_states.release([tenant_id for tenant_id, _ in moves])
    around = {TenantState.MAINTENANCE, TenantState.DELETED}
    reset = [tenant_id for tenant_id, before in moves if before in around or after in around]
    states = transaction.rule_states.of_tenants(reset)
    if states:
        rules = {rule.id: rule for rule in transaction.rules.active([MAIN_OWNER, *reset])}
        findings = end_findings(states, rules, f"the Tenant was moved to {after.value}", now_ms)
        carry_out(
            transaction, [replace(finding, acted_after=finding.acted_before) for finding in findings], _anybody, now_ms
        )
    transaction.rule_states.forget_tenants(reset)


def _anybody(_tenant_id: int) -> bool:
    return True


def _move(finding: Finding) -> ActionKind | None:
    rule, after = finding.rule, finding.acted_after
    if after is finding.acted_before:
        return None
    if after > finding.acted_before and rule.acts(ActionKind.TO_ALERT, after):
        return ActionKind.TO_ALERT
    return ActionKind.TO_ACTIVE if rule.acts(ActionKind.TO_ACTIVE, after) else None


def firing_of(finding: Finding, received_ms: int) -> Firing | None:
    """What a finding is for the alerts; None where its rule raises none for it."""
    rule, condition = finding.rule, finding.rule.draft.condition
    stood, stands = (rule.acts(ActionKind.RAISE_ALERT, level) for level in (finding.before, finding.after))
    if finding.before is finding.after or not (stood or stands):
        return None
    limit, labels = condition.limits.get(finding.after), dict(finding.labels)
    fields: dict[str, JsonValue] = {
        "metric": condition.metric,
        "labels": {**labels},
        "value": _finite(finding.value),
        "threshold": None if limit is None else limit.value,
    }
    sample = RecordCopy(
        condition.stream,
        finding.timestamp_ms,
        {"metric": condition.metric, "labels": {**labels}, "value": fields["value"]},
    )
    return Firing(
        owner=finding.tenant_id,
        tenant_id=finding.tenant_id,
        source=AlertSource.RULE,
        rule=rule.name,
        rule_id=rule.uid,
        score=rule.draft.score,
        message=finding.describe(),
        event_ms=finding.timestamp_ms,
        level=finding.after,
        series=json.dumps(finding.labels),
        over=not stands,
        late=received_ms - finding.timestamp_ms > LATE_AFTER_MS,
        fields=fields,
        records=() if finding.value is None else (sample,),
    )


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and value - value == 0.0 else None
