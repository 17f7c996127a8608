"""Rules that do not judge as they should say so: in their status, and once as a notification."""

from collections.abc import Iterable

from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.records import NewRecord
from tenantry.master.domain.rules import Rule
from tenantry.master.operations import journal
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.messages import NotificationLevel
from tenantry.protocol.names import MAX_REASON, tidy_text


def tell_failing(transaction: Transaction, failing: Iterable[tuple[Rule, str]], now_ms: int) -> None:
    """Write down why each of these rules fails, where it does not say so already."""
    records: list[NewRecord] = []
    for rule, reason in failing:
        if rule.failing_reason == reason:
            continue
        transaction.rules.set_failing(rule.id, reason, now_ms)
        text = tidy_text(f"the rule {rule.name} is failing: {reason}", MAX_REASON)
        # A Tenant's rule is nobody else's business.
        whose = rule.owner if rule.owner > MAIN_OWNER else None
        records.append(journal.notification(NotificationLevel.WARNING, "rules", text, now_ms, whose))
    transaction.records.append(records)
