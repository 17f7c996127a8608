"""A Tenant meets a limit that guards the Master: an alert and a notification say which, whose and what to do.

Work for the committer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import journal
from tenantry.master.operations.alerting import News, system_firing
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.messages import NotificationLevel, Severity
from tenantry.protocol.names import MAX_REASON, tidy_text

TOLD_AGAIN_MS: Final = 3_600_000
"""One limit of one Tenant is told once in this time."""
TOO_MANY_SERIES: Final = "too many series"


@dataclass(frozen=True, slots=True)
class LimitMet:
    """A Tenant (the store's number) has met a limit: its name, which is the alert's as well, what it means in words, and facts."""

    tenant_id: int
    limit: str
    message: str
    facts: Mapping[str, JsonValue] = field(default_factory=dict)


def too_many_series(rule: str, tenant_id: int, most: int, what: str) -> LimitMet:
    """A Tenant has more of something (``what``, in words) than a rule keeps of one Tenant."""
    message = (
        f"of this Tenant the rule {rule} keeps {most:,} {what}; what is beyond is not judged. Narrow the rule, or find "
        "what invents labels"
    )
    return LimitMet(tenant_id, TOO_MANY_SERIES, message, {"of_rule": rule, "limit": most})


def tell_limits(transaction: Transaction, met: Sequence[LimitMet], now_ms: int) -> None:
    """Write down what was met, but for what was told within the hour: the open alert knows, also after a restart."""
    tenants = transaction.tenants.standings_of({one.tenant_id for one in met})
    firings = {
        (one.tenant_id, one.limit): system_firing(
            tenants[one.tenant_id],
            one.limit,
            Severity.MEDIUM,
            tidy_text(one.message, MAX_REASON),
            now_ms,
            fields=one.facts,
        )
        for one in met
        if one.tenant_id in tenants
    }
    known = transaction.alerts.filled_by({firing.filling_key for firing in firings.values()})
    news = News()
    for (tenant_id, limit), firing in firings.items():
        alert = known.get(firing.filling_key)
        if alert is not None and now_ms - TOLD_AGAIN_MS < alert.last_ms <= now_ms:
            continue
        tenant = tenants[tenant_id]
        text = tidy_text(f"{limit} of {tenant.tenant_name} {tenant.instance_name}: {firing.message}", MAX_REASON)
        news.firings.append(firing)
        news.records.append(journal.notification(NotificationLevel.WARNING, "limits", text, now_ms, tenant_id))
    news.write(transaction, now_ms)
