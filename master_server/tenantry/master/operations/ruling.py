"""Rules as operators handle them, and those that the program brings along. Work for the committer.

A change of what a rule judges or does ends what it had found: with the next samples it begins anew. Who may do what with which rule
is decided by `operations.rule_rights`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER, OWNER_WORDS
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.master.domain.privacy import kept
from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.rules import (
    MAX_RULES,
    ActionKind,
    Rule,
    RuleDraft,
    check_draft,
    check_etag,
    check_may_judge,
    most_rules,
)
from tenantry.master.operations import journal
from tenantry.master.operations.actors import SYSTEM, Actor
from tenantry.master.operations.findings import carry_out, end_findings
from tenantry.master.operations.window_programs import check_reads
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
    "window": "window",
}
_DETAILS: Final = {
    **{name: name for name in ("name", "description", "tags", "score", "active", "actions", "privacy")},
    "throttle": "throttle_ms",
    "mitre_tactic": "mitre_tactic",
    "mitre_technique": "mitre_technique",
}
EDITABLE: Final = (*_DETAILS, *_CONDITION)
"""The paths of an update, as the contract names them."""


def create_rule(transaction: Transaction, actor: Actor, draft: RuleDraft, *, owner: int, uid: str, now_ms: int) -> Rule:
    """Keep a new rule of this owner. Raises FieldInvalid, RuleNameTaken, RuleInLibrary, RulesTooMany."""
    checked = _checked(draft)
    check_may_judge(owner, checked)
    if transaction.rules.count_at(owner) >= most_rules(owner):
        raise RulesTooMany(whose="this owner", limit=most_rules(owner))
    if owner > MAIN_OWNER and transaction.rules.count_of_tenants() >= MAX_RULES:
        raise RulesTooMany(whose="all Tenants together", limit=MAX_RULES)
    rule = transaction.rules.insert(uid, checked, now_ms, owner=owner)
    transaction.records.append([_audit(transaction, actor, "rule.create", rule, now_ms)])
    return rule


def update_rule(
    transaction: Transaction,
    actor: Actor,
    rule: Rule,
    etag: str,
    draft: RuleDraft,
    paths: tuple[str, ...],
    now_ms: int,
) -> Rule:
    """Change the fields in ``paths`` to those of ``draft``. Raises FieldInvalid, RuleChanged, RuleNameTaken, RuleInLibrary."""
    expected = f"paths among {', '.join(EDITABLE)}"
    if not paths:
        raise FieldInvalid(field="update_mask", problem="is empty", expected=expected)
    if any(path not in EDITABLE for path in paths):
        raise FieldInvalid(field="update_mask", problem="names a field that cannot be edited", expected=expected)
    check_etag(rule, etag)
    return _change(transaction, actor, rule, _checked(_merge(rule.draft, draft, paths)), "rule.update", paths, now_ms)


def _checked(draft: RuleDraft) -> RuleDraft:
    """Raises FieldInvalid; QueryInvalid for a condition of its window."""
    checked = check_draft(draft)
    check_reads(checked.condition)
    return checked


def set_active(transaction: Transaction, actor: Actor, rule: Rule, etag: str, active: bool, now_ms: int) -> Rule:
    """Enable or disable a rule; nothing happens to one that is so already. Raises RuleChanged, RuleInLibrary."""
    check_etag(rule, etag)
    action = "rule.enable" if active else "rule.disable"
    if rule.draft.active == active:
        transaction.records.append([_audit(transaction, actor, action, rule, now_ms, unchanged=True)])
        return rule
    return _change(transaction, actor, rule, replace(rule.draft, active=active), action, ("active",), now_ms)


def delete_rule(transaction: Transaction, actor: Actor, rule: Rule, etag: str, now_ms: int) -> None:
    """Forget a rule; what it had found is over. Raises RuleChanged, RuleBuiltIn."""
    check_etag(rule, etag)
    if rule.builtin:
        raise RuleBuiltIn(rule=rule.name)
    _end(transaction, rule, "the rule was deleted", now_ms)
    transaction.rules.delete(rule)
    transaction.records.append([_audit(transaction, actor, "rule.delete", rule, now_ms)])


def delete_rules_of(transaction: Transaction, actor: Actor, tenant_id: int, now_ms: int) -> None:
    """Forget the rules of a Tenant that is being deleted, of which everything that was found is over already."""
    for rule in transaction.rules.at(tenant_id):
        transaction.rule_states.forget_rule(rule.id)
        transaction.rules.delete(rule)
        record = _audit(transaction, actor, "rule.delete", rule, now_ms, reason="its Tenant was deleted")
        transaction.records.append([record])


def install_builtin_rules(transaction: Transaction, new_uid: Callable[[], str], now_ms: int) -> None:
    """Keep those rules of the program that are not there yet, disabled."""
    known = transaction.rules.builtin()
    for builtin, draft in BUILTIN_RULES.items():
        if builtin in known:
            continue
        uid, checked = new_uid(), check_draft(draft)
        try:
            rule = transaction.rules.insert(uid, checked, now_ms, builtin, owner=MAIN_OWNER)
        except RuleNameTaken:
            renamed = replace(checked, name=f"{draft.name} (built-in)")
            rule = transaction.rules.insert(uid, renamed, now_ms, builtin, owner=MAIN_OWNER)
        transaction.records.append([_audit(transaction, SYSTEM, "rule.create", rule, now_ms)])


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
    check_may_judge(rule.owner, draft)
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
    transaction.records.append([_audit(transaction, actor, action, changed, now_ms, fields=list(fields))])
    return changed


def _audit(
    transaction: Transaction, actor: Actor, action: str, rule: Rule, now_ms: int, **facts: JsonValue
) -> NewRecord:
    """What was done with a rule, for those who may read the audit of its owner."""
    word, tenant_id = OWNER_WORDS.get(rule.owner), None
    if word is None:
        word, tenant_id = transaction.tenants.standings_of({rule.owner})[rule.owner].guid, rule.owner
    named = {"rule": rule.name, "rule_id": rule.uid, "owner": word}
    return journal.audit(actor, action, now_ms, tenant_id, None, **named, **facts)


def _end(transaction: Transaction, rule: Rule, why: str, now_ms: int) -> None:
    """What the rule has found is over, as if every series had come back."""
    findings = end_findings(transaction.rule_states.of_rule(rule.id), {rule.id: rule}, why, now_ms)
    if findings:
        concerned = sorted({one.tenant_id for one in findings})
        judging = transaction.rules.active([MAIN_OWNER, *concerned])
        rules = {other.id: other for other in judging if other.id != rule.id}
        held = {
            key.tenant_id
            for key, state in transaction.rule_states.of_tenants(concerned)
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
    details = {_DETAILS[path]: getattr(wanted, _DETAILS[path]) for path in paths if path in _DETAILS}
    if "privacy" in details:
        details["privacy"] = kept(present.privacy, wanted.privacy)
    return replace(present, condition=condition, **details)
