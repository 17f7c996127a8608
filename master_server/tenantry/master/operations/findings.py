"""What it brings about when a rule finds something: alerts, and moves of the life cycle. Work inside a transaction.

A rule moves a Tenant to Alert when a series comes to a worse level, and back to Active only when a rule had put it there and no
series holds it there any more. What an operator decides stands: a finding acts again after it was over, or got worse.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.alerts import Alert, AlertSource, Firing, RecordCopy
from tenantry.master.domain.lifecycle import LIFECYCLE, SUPERVISED, LifecycleEvent
from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.rules import ActionKind, Labels, Rule
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alerting import News, muting
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
        subject = condition.subject + "".join(f" {name}={value}" for name, value in self.labels)
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
    moves = _Moves(transaction, {finding.tenant_id for finding in findings}, received_ms)
    news = News()
    windows = transaction.windows.in_force(min(finding.timestamp_ms for finding in findings)) if findings else []
    for finding in findings:
        number = finding.tenant_id
        if number not in moves.states:
            continue
        firing = firing_of(finding, received_ms)
        if firing is not None:
            news.firings.append(firing)
        kind = _move(finding)
        if kind is ActionKind.TO_ALERT and firing is not None and muting(windows, firing, firing.event_ms) is not None:
            continue  # what still stands when the window is over moves the Tenant then
        if kind is None or (kind is ActionKind.TO_ACTIVE and (number not in moves.by_rules or held(number))):
            continue
        moves.make(number, kind, finding.rule, finding.describe())
    news.records = moves.write()
    news.write(transaction, received_ms, windows)


def move_after_windows(transaction: Transaction, alerts: Sequence[Alert], now_ms: int) -> None:
    """Move the Tenants of alerts that stand, now that what muted them is over, to Alert where their rules say so."""
    standing = [(alert, alert.standing_level) for alert in alerts if alert.source is AlertSource.RULE]
    rules = transaction.rules.by_uids({alert.rule_id for alert, _ in standing})
    moves = _Moves(transaction, {alert.tenant_id for alert, _ in standing if alert.tenant_id is not None}, now_ms)
    for alert, level in standing:
        rule, number = rules.get(alert.rule_id), alert.tenant_id
        if rule is None or level is None or number not in moves.states or not rule.acts(ActionKind.TO_ALERT, level):
            continue
        assert number is not None  # noqa: S101 - it is among them
        moves.make(number, ActionKind.TO_ALERT, rule, f"{alert.message}, still so after {alert.muted_by}"[:MAX_REASON])
    records = moves.write()
    if records:
        transaction.records.append(records)


class _Moves:
    """Moves of the life cycle that rules make in one transaction, until they are written."""

    def __init__(self, transaction: Transaction, tenant_ids: Collection[int], now_ms: int) -> None:
        self._transaction = transaction
        self._now_ms = now_ms
        self._tenants = transaction.tenants.standings_of(tenant_ids)
        self._moved: dict[int, tuple[TenantState, str]] = {}
        self._records: list[NewRecord] = []
        self.states = {number: one.state for number, one in self._tenants.items() if one.state in SUPERVISED}
        self.by_rules = transaction.rule_states.held(tenant_ids)

    def make(self, number: int, kind: ActionKind, rule: Rule, reason: str) -> None:
        """Move a Tenant, where the life cycle lets a rule do so."""
        before = self.states[number]
        after = LIFECYCLE.get((before, _MOVES[kind]))
        if after is None:
            return
        actor = Actor("rule", rule.name)
        self._records.append(journal.state_changed(self._tenants[number], before, after, actor, reason, self._now_ms))
        self.states[number], self._moved[number] = after, (after, reason)
        (self.by_rules.add if after is TenantState.ALERT else self.by_rules.discard)(number)

    def write(self) -> list[NewRecord]:
        """Write the moves; the records of tenantStatusHistory that say so."""
        transaction, moved = self._transaction, self._moved
        transaction.tenants.move_each(moved, self._now_ms)
        transaction.rule_states.hold([number for number in moved if number in self.by_rules], self._now_ms)
        transaction.rule_states.release([number for number in moved if number not in self.by_rules])
        return self._records


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
    still = finding.before is finding.after and finding.acted_after > finding.acted_before
    if finding.before is finding.after and not still:
        return None
    if not (stands if still else stood or stands):
        return None
    limit, labels = condition.limits.get(finding.after), dict(finding.labels)
    fields: dict[str, JsonValue] = {
        "metric": condition.subject,
        "labels": {**labels},
        "value": _finite(finding.value),
        "threshold": None if limit is None else limit.value,
    }
    sample = RecordCopy(
        condition.stream,
        finding.timestamp_ms,
        {"metric": condition.subject, "labels": {**labels}, "value": fields["value"]},
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
        late=received_ms - finding.timestamp_ms > condition.late_after_ms,
        still=still,
        fields=fields,
        records=() if still or finding.value is None else (sample,),
    )


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and value - value == 0.0 else None
