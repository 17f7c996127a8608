"""Whether what rules have found keeps a Tenant in Alert."""

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.rules import ActionKind
from tenantry.master.sql.transaction import Transaction


def holds_in_alert(transaction: Transaction, tenant_id: int) -> bool:
    """Whether something that a rule has found, as it is stored, keeps the Tenant in Alert."""
    found = [
        (key.rule_id, state.acted)
        for key, state in transaction.rule_states.of_tenants([tenant_id])
        if state.acted is not Level.CLEARED
    ]
    if not found:
        return False
    rules = {rule.id: rule for rule in transaction.rules.active([MAIN_OWNER, tenant_id])}
    return any(rule_id in rules and rules[rule_id].acts(ActionKind.TO_ALERT, level) for rule_id, level in found)
