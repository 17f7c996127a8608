"""How much may wait in the outbox: what is beyond is given up at once, with the reason, and can be retried as all that is given up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.deliveries import (
    MAX_SUBSCRIBED,
    MAX_WAITING_ABOUT,
    MAX_WAITING_OF_MAIN,
    SUBSCRIBED_MS,
    NewDelivery,
)
from tenantry.master.operations import journal
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.messages import NotificationLevel

TOLD_AGAIN_MS: Final = 3_600_000
_ABOUT: Final = f"{MAX_WAITING_ABOUT:,} deliveries about this Tenant wait already"
_OF_MAIN: Final = f"{MAX_WAITING_OF_MAIN:,} deliveries of the main tenant wait already"
_SUBSCRIBED: Final = f"the subscription has brought {MAX_SUBSCRIBED} deliveries about this Tenant within an hour"


def within_bounds(transaction: Transaction, new: Sequence[NewDelivery], now_ms: int) -> list[NewDelivery]:
    """The deliveries, with the reason at those for which there is no room. Each reason is told its owner once an hour."""
    waiting = {owner: Counter(transaction.deliveries.waiting_about(owner)) for owner in {one.owner for one in new}}
    subscribed: Counter[tuple[str, int]] = Counter()
    judged: list[NewDelivery] = []
    for one in new:
        own, whose = waiting[one.owner], (one.receiver_uid, one.tenant_id)
        refused = ""
        if one.source != "rule":
            if whose not in subscribed:
                subscribed[whose] = transaction.deliveries.subscribed_since(*whose, now_ms - SUBSCRIBED_MS)
            if subscribed[whose] >= MAX_SUBSCRIBED:
                refused = _SUBSCRIBED
        if own[one.tenant_id] >= MAX_WAITING_ABOUT:
            refused = _ABOUT
        elif one.owner == MAIN_OWNER and own.total() >= MAX_WAITING_OF_MAIN:
            refused = _OF_MAIN
        if not refused:
            own[one.tenant_id] += 1
            subscribed[whose] += one.source != "rule"
        judged.append(replace(one, refused=refused) if refused else one)
    _tell(transaction, judged, now_ms)
    return judged


def _tell(transaction: Transaction, judged: Sequence[NewDelivery], now_ms: int) -> None:
    first = {(one.owner, one.refused): one for one in reversed(judged) if one.refused}
    records = []
    for (owner, reason), one in first.items():
        if transaction.deliveries.was_refused(owner, reason, now_ms - TOLD_AGAIN_MS):
            continue
        text = (
            f"deliveries to {one.receiver_name} and perhaps others are given up at once: {reason} ({one.tenant_name} "
            f"{one.instance_name}). See what its receivers say; `tenantry delivery retry` sends what was given up"
        )
        whose = owner if owner > MAIN_OWNER else None
        records.append(journal.notification(NotificationLevel.WARNING, "outbox", text[:500], now_ms, whose))
    if records:
        transaction.records.append(records)
