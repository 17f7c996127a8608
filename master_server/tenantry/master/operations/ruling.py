"""Rules as operators handle them, and those that the program brings along. Work for the committer.

A change of what a rule judges or does ends what it had found: with the next samples it begins anew.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.master.domain.rules import (
    MAX_RULES,
    ActionKind,
    Rule,
    RuleDraft,
    RuleFilter,
    check_draft,
    check_etag,
)
from tenantry.master.operations import journal
from tenantry.master.operations.actors import SYSTEM, Actor
from tenantry.master.operations.findings import carry_out, end_findings
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, RuleBuiltIn, RuleNameTaken, RulesTooMany

_CONDITION: Final = {
    "stream": "stream",
    "metric": "metric",
    "labels": "labels",
    "thresholds": "limits",
    "margin": "margin",
    "for_duration": "for_ms",
    "clear_for_duration": "clear_for_ms",
}
_DETAILS: Final = ("name", "description", "tags", "score", "active", "actions")
EDITABLE: Final = (*_DETAILS, *_CONDITION)
"""The paths of an update, as the contract names them."""


def create_rule(transaction: Transaction, actor: Actor, draft: RuleDraft, *, uid: str, now_ms: int) -> Rule:
    """Keep a new rule. Raises FieldInvalid, RuleNameTaken, RulesTooMany."""
    checked = check_draft(draft)
    if transaction.rules.count(RuleFilter()) >= MAX_RULES:
        raise RulesTooMany(limit=MAX_RULES)
    rule = transaction.rules.insert(uid, checked, now_ms)
    transaction.records.append([journal.audit(actor, "rule.create", now_ms, rule=rule.name, rule_id=uid)])
    return rule


def update_rule(
    transaction: Transaction,
    actor: Actor,
    uid: str,
    etag: str,
    draft: RuleDraft,
    paths: tuple[str, ...],
    now_ms: int,
) -> Rule:
    """Change the fields in ``paths`` to those of ``draft``. Raises FieldInvalid, RuleNotFound, RuleChanged, RuleNameTaken."""
    expected = f"paths among {', '.join(EDITABLE)}"
    if not paths:
        raise FieldInvalid(field="update_mask", problem="is empty", expected=expected)
    if any(path not in EDITABLE for path in paths):
        raise FieldInvalid(field="update_mask", problem="names a field that cannot be edited", expected=expected)
    rule = transaction.rules.get(uid)
    check_etag(rule, etag)
    return _change(
        transaction, actor, rule, check_draft(_merge(rule.draft, draft, paths)), "rule.update", paths, now_ms
    )


def set_active(transaction: Transaction, actor: Actor, uid: str, etag: str, active: bool, now_ms: int) -> Rule:
    """Enable or disable a rule; nothing happens to one that is so already. Raises RuleNotFound, RuleChanged."""
    rule = transaction.rules.get(uid)
    check_etag(rule, etag)
    action = "rule.enable" if active else "rule.disable"
    if rule.draft.active == active:
        record = journal.audit(actor, action, now_ms, rule=rule.name, rule_id=uid, unchanged=True)
        transaction.records.append([record])
        return rule
    return _change(transaction, actor, rule, replace(rule.draft, active=active), action, ("active",), now_ms)


def delete_rule(transaction: Transaction, actor: Actor, uid: str, etag: str, now_ms: int) -> None:
    """Forget a rule; what it had found is over. Raises RuleNotFound, RuleChanged, RuleBuiltIn."""
    rule = transaction.rules.get(uid)
    check_etag(rule, etag)
    if rule.builtin:
        raise RuleBuiltIn(rule=rule.name)
    _end(transaction, rule, "the rule was deleted", now_ms)
    transaction.rules.delete(rule)
    transaction.records.append([journal.audit(actor, "rule.delete", now_ms, rule=rule.name, rule_id=uid)])


def install_builtin_rules(transaction: Transaction, new_uid: Callable[[], str], now_ms: int) -> None:
    """Keep those rules of the program that are not there yet, disabled."""
    known = transaction.rules.builtin()
    for builtin, draft in BUILTIN_RULES.items():
        if builtin in known:
            continue
        uid, checked = new_uid(), check_draft(draft)
        try:
            rule = transaction.rules.insert(uid, checked, now_ms, builtin)
        except RuleNameTaken:
            rule = transaction.rules.insert(uid, replace(checked, name=f"{draft.name} (built-in)"), now_ms, builtin)
        transaction.records.append([journal.audit(SYSTEM, "rule.create", now_ms, rule=rule.name, rule_id=uid)])


def _change(
    transaction: Transaction,
    actor: Actor,
    rule: Rule,
    draft: RuleDraft,
    action: str,
    fields: tuple[str, ...],
    now_ms: int,
) -> Rule:
    before = rule.draft
    anew = (draft.condition, draft.actions, draft.active) != (before.condition, before.actions, before.active)
    if anew:
        _end(transaction, rule, "the rule was changed" if draft.active else "the rule was disabled", now_ms)
    changed = replace(
        rule,
        draft=draft,
        version=rule.version + 1,
        updated_ms=now_ms,
        failing_reason="" if anew else rule.failing_reason,
        failing_since_ms=None if anew else rule.failing_since_ms,
    )
    transaction.rules.save(changed)
    record = journal.audit(actor, action, now_ms, rule=draft.name, rule_id=rule.uid, fields=list(fields))
    transaction.records.append([record])
    return changed


def _end(transaction: Transaction, rule: Rule, why: str, now_ms: int) -> None:
    """What the rule has found is over, as if every series had come back."""
    findings = end_findings(transaction.rule_states.of_rule(rule.id), {rule.id: rule}, why, now_ms)
    if findings:
        rules = {other.id: other for other in transaction.rules.active() if other.id != rule.id}
        held = {
            key.tenant_id
            for key, state in transaction.rule_states.of_tenants(sorted({one.tenant_id for one in findings}))
            if state.acted is not Level.CLEARED
            and key.rule_id in rules
            and rules[key.rule_id].acts(ActionKind.TO_ALERT, state.acted)
        }
        carry_out(transaction, findings, held.__contains__, now_ms)
    transaction.rule_states.forget_rule(rule.id)


def _merge(present: RuleDraft, wanted: RuleDraft, paths: tuple[str, ...]) -> RuleDraft:
    condition = replace(
        present.condition,
        **{_CONDITION[path]: getattr(wanted.condition, _CONDITION[path]) for path in paths if path in _CONDITION},
    )
    details = {path: getattr(wanted, path) for path in paths if path in _DETAILS}
    return replace(present, condition=condition, **details)
