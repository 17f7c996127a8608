"""Throttling: of one Tenant a rule tells a receiver once in a time, unless it gets worse or is over.

A receiver that was told that it is over, and for which it comes again too early, is told at the end of that time, unless it is over
again by then: nobody is left with less than what stands.
"""

from collections.abc import Iterable

from tenantry.detection.levels import Level
from tenantry.master.domain.deliveries import NewDelivery
from tenantry.master.domain.rules import Rule
from tenantry.master.sql.deliveries import Told
from tenantry.master.sql.transaction import Transaction

_OVER = Level.CLEARED.name.lower()


def throttle(
    transaction: Transaction,
    rule: Rule,
    tenant_id: int,
    level: Level,
    receivers: Iterable[str],
    new: list[NewDelivery],
    now_ms: int,
) -> dict[str, int]:
    """Which of these receivers (ids) are to be told, and when that is due: 0 at once, otherwise the end of the throttle.

    ``new`` is what is about to be written. What was held back, there and in the store, and need not be told any more, is taken out.
    """
    lasting = rule.draft.throttle_ms
    told = transaction.deliveries.told_since(rule.owner, rule.name, tenant_id, now_ms - lasting, now_ms - 2 * lasting)
    told += [Told(0, one.receiver_uid, one.level, one.due_ms or now_ms) for one in new if _is_of(one, rule, tenant_id)]
    due: dict[str, int] = {}
    withdrawn: list[Told] = []
    for uid in receivers:
        own = [one for one in told if one.receiver_uid == uid]
        held = [one for one in own if one.since_ms > now_ms]
        past = [one for one in own if one.since_ms <= now_ms]
        if level is Level.CLEARED:
            withdrawn += held
            if not (held and past and past[-1].level == _OVER):
                due[uid] = 0
        elif all(Level[one.level.upper()] < level for one in past):
            withdrawn += held
            due[uid] = 0
        elif not held and past[-1].level == _OVER:
            due[uid] = max(one.since_ms for one in past if one.level != _OVER) + lasting
    if withdrawn:
        transaction.deliveries.withdraw([one.id for one in withdrawn if one.id])
        gone = {one.receiver_uid for one in withdrawn if not one.id}
        new[:] = [one for one in new if not (one.due_ms and one.receiver_uid in gone and _is_of(one, rule, tenant_id))]
    return due


def _is_of(delivery: NewDelivery, rule: Rule, tenant_id: int) -> bool:
    return (delivery.rule, delivery.owner, delivery.tenant_id) == (rule.name, rule.owner, tenant_id)
