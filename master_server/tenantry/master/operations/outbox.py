"""The outbox: what is to be told is written in the transaction of the alert, and stays until a receiver has taken it.

Nothing here sends. Who sends writes down what came of it afterwards: a Master that dies between sending and writing sends the same
again after its start, under the same key.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER, OWNER_WORDS, SHARED_OWNER
from tenantry.master.domain.alerts import Alert, AlertSource, Firing
from tenantry.master.domain.deliveries import (
    MAX_CONTENT,
    Attempt,
    Delivery,
    DeliveryEvent,
    DeliveryState,
    NewDelivery,
    Notice,
    next_state,
    pause_ms,
)
from tenantry.master.domain.receivers import SUBSCRIBED, Receiver
from tenantry.master.domain.records import JsonValue
from tenantry.master.domain.tenants import TenantStanding
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.outbox_bounds import within_bounds
from tenantry.master.operations.outbox_throttling import throttle
from tenantry.master.sql.documents import write_fields
from tenantry.master.sql.transaction import Transaction
from tenantry.process.failpoints import failpoint
from tenantry.protocol.failures import DeliveryInWrongState, ReceiverNotFound
from tenantry.protocol.messages import Severity

_LEVELS: Final = {Severity.CRITICAL: Level.CRITICAL, Severity.HIGH: Level.MAJOR}


@dataclass(frozen=True, slots=True)
class Telling:
    """What receivers of a rule may have to be told about an alert: that it came to a level, or with CLEARED that it is over."""

    alert: Alert
    level: Level
    message: str
    event_ms: int
    fields: dict[str, JsonValue]


def telling_of_firing(alert: Alert, firing: Firing) -> Telling | None:
    """What there is to tell of a firing that is due now; None of one of a rule that has no level."""
    level = _own_level(alert) if firing.level is None else firing.level
    level = Level.CLEARED if firing.over else level
    if level is None:
        return None
    return Telling(alert, level, firing.message, firing.event_ms, dict(firing.fields))


def telling_of_alert(alert: Alert) -> Telling | None:
    """What there is to tell of an alert that stands when the window that muted it is over; None of one of a rule without a level."""
    level = _own_level(alert) if alert.standing_level is None else alert.standing_level
    return None if level is None else Telling(alert, level, alert.message, alert.last_ms, dict(alert.fields))


def _own_level(alert: Alert) -> Level | None:
    """That of an alert which no thresholds of the Master have found: by how severe it is."""
    return None if alert.source is AlertSource.RULE else _LEVELS.get(alert.severity, Level.MINOR)


def enqueue(transaction: Transaction, tellings: Sequence[Telling], now_ms: int) -> int:
    """Let deliveries wait for the receivers that the alerts' rules name for these levels, and for those that have subscribed.

    To be called in the transaction that writes the alerts. What was found late and what is muted is not to be told. Gives how many
    deliveries there are, those included for which there is no room and which are given up at once.
    """
    about = [one for one in tellings if one.alert.tenant_id is not None]
    if not about or not transaction.receivers.exist():
        return 0
    tenants = transaction.tenants.standings_of({one.alert.tenant_id for one in about if one.alert.tenant_id})
    new = _by_rules(transaction, about, tenants, now_ms) + _by_subscriptions(transaction, about, tenants, now_ms)
    if new:
        transaction.deliveries.insert(within_bounds(transaction, new, now_ms))
        failpoint("outbox.enqueued")
    return len(new)


def _by_rules(
    transaction: Transaction, tellings: Sequence[Telling], tenants: Mapping[int, TenantStanding], now_ms: int
) -> list[NewDelivery]:
    found = [one for one in tellings if one.alert.source is AlertSource.RULE]
    rules = transaction.rules.by_uids({one.alert.rule_id for one in found})
    named = {uid for rule in rules.values() for action in rule.draft.actions if (uid := action.receiver)}
    if not named:
        return []
    receivers = transaction.receivers.by_uids(named)
    new: list[NewDelivery] = []
    for one in found:
        rule, tenant = rules.get(one.alert.rule_id), tenants.get(one.alert.tenant_id or 0)
        if rule is None or tenant is None:
            continue
        told = [receivers[uid] for uid in rule.receivers(one.level) if uid in receivers]
        allowed = [receiver for receiver in told if may_tell(rule.owner, receiver)]
        due = {receiver.uid: 0 for receiver in allowed}
        if rule.draft.throttle_ms and allowed:
            due = throttle(transaction, rule, tenant.id, one.level, due, new, now_ms)
        kept = [receiver for receiver in allowed if receiver.uid in due]
        written = _deliveries(rule.owner, kept, one, rule.name, rule.uid, tenant, now_ms)
        new += [replace(delivery, due_ms=due[delivery.receiver_uid]) for delivery in written]
    return new


def _by_subscriptions(
    transaction: Transaction, tellings: Sequence[Telling], tenants: Mapping[int, TenantStanding], now_ms: int
) -> list[NewDelivery]:
    found = [one for one in tellings if one.alert.source in SUBSCRIBED]
    if not found:
        return []
    receivers = transaction.receivers.subscribed({MAIN_OWNER, *(one.alert.owner for one in found)})
    new: list[NewDelivery] = []
    for one in found:
        alert, tenant = one.alert, tenants.get(one.alert.tenant_id or 0)
        for receiver in receivers:
            if tenant and receiver.owner in (MAIN_OWNER, alert.owner) and receiver.draft.subscription.wants(alert):
                new += _deliveries(receiver.owner, [receiver], one, alert.rule, "", tenant, now_ms)
    return new


def _deliveries(
    owner: int,
    receivers: Sequence[Receiver],
    telling: Telling,
    rule: str,
    rule_uid: str,
    tenant: TenantStanding,
    now_ms: int,
) -> list[NewDelivery]:
    """What each of these receivers is told, under this owner."""
    if not receivers:
        return []
    notice = Notice(
        alert=telling.alert.uid,
        rule=rule,
        rule_uid=rule_uid,
        source=telling.alert.source.value,
        severity=telling.alert.severity.value,
        score=telling.alert.score,
        level=telling.level.name.lower(),
        over=telling.level is Level.CLEARED,
        message=telling.message,
        event_ms=telling.event_ms,
        tenant_guid=tenant.guid,
        tenant_name=tenant.tenant_name,
        instance_name=tenant.instance_name,
        fields=telling.fields,
    )
    content = write_content(notice)
    return [_new(owner, receiver, notice, tenant.id, content, now_ms) for receiver in receivers]


def may_tell(owner: int, receiver: Receiver) -> bool:
    """Whether rules of this owner may tell this receiver: it is the owner's own, or everybody's."""
    return receiver.owner in (owner, SHARED_OWNER)


def write_content(notice: Notice) -> str:
    """What is told, as it is kept: with all its fields where there is room for them."""
    content = notice.content()
    text = write_fields(content)
    return text if len(text) <= MAX_CONTENT else write_fields({**content, "fields": {"left_out": "too long"}})


def settle(
    transaction: Transaction, delivery: Delivery, attempt: Attempt, failures: int, chance: float, now_ms: int
) -> Delivery | None:
    """Write down how an attempt went; the delivery as it is then, None where it does not wait any more.

    ``failures``: how often the receiver has failed in a row, this time included; ``chance`` as in `pause_ms`.
    """
    not_taken = DeliveryEvent.GIVEN_UP if attempt.permanent else DeliveryEvent.NOT_TAKEN
    event = DeliveryEvent.TAKEN if attempt.taken else not_taken
    state = next_state(delivery, event)
    settled = replace(
        delivery,
        state=state,
        attempts=delivery.attempts + 1,
        attempted_ms=now_ms,
        outcome=attempt.detail,
        next_ms=delivery.next_ms if attempt.taken else now_ms + pause_ms(max(1, failures), chance, attempt.wish_ms),
        ended_ms=None if state is DeliveryState.WAITING else now_ms,
    )
    if delivery.receiver_id is not None:
        transaction.receivers.note(delivery.receiver_id, attempt.detail, failing=not attempt.taken, now_ms=now_ms)
    return settled if transaction.deliveries.save(settled, delivery.state) else None


def retry(transaction: Transaction, actor: Actor, delivery: Delivery, now_ms: int) -> Delivery:
    """Let what was given up wait again, under its key and with a new lifetime. Raises DeliveryInWrongState, ReceiverNotFound."""
    state = next_state(delivery, DeliveryEvent.RETRIED)
    if delivery.receiver_id is None:
        raise ReceiverNotFound(receiver=delivery.receiver_name)
    anew = replace(delivery, state=state, since_ms=now_ms, next_ms=now_ms, ended_ms=None)
    if not transaction.deliveries.save(anew, delivery.state, anew=True):
        raise DeliveryInWrongState(delivery=delivery.uid, state=delivery.state, wanted=DeliveryEvent.RETRIED)
    word, tenant_id = owner_word(transaction, delivery.owner)
    facts: dict[str, JsonValue] = {"delivery": delivery.uid, "receiver": delivery.receiver_name, "owner": word}
    transaction.records.append([journal.audit(actor, "delivery.retry", now_ms, tenant_id, None, **facts)])
    return anew


def owner_word(transaction: Transaction, owner: int) -> tuple[str, int | None]:
    """How an owner is written, and the number of the Tenant whose audit it is in; None for that of the main tenant."""
    word = OWNER_WORDS.get(owner)
    if word is not None:
        return word, None
    return transaction.tenants.standings_of({owner})[owner].guid, owner


def names_of_owners(transaction: Transaction, owners: Collection[int]) -> dict[int, str]:
    """How owners are written."""
    guids = {number: tenant.guid for number, tenant in transaction.tenants.standings_of(set(owners)).items()}
    return {**guids, **OWNER_WORDS}


def read_content(delivery: Delivery) -> dict[str, JsonValue]:
    """What is told."""
    found: dict[str, JsonValue] = json.loads(delivery.content)
    return found


def _new(owner: int, receiver: Receiver, notice: Notice, tenant_id: int, content: str, now_ms: int) -> NewDelivery:
    return NewDelivery(
        uid=str(uuid.uuid4()),
        owner=owner,
        receiver_id=receiver.id,
        receiver_uid=receiver.uid,
        receiver_name=receiver.name,
        tenant_id=tenant_id,
        alert=notice.alert,
        rule=notice.rule,
        tenant_guid=notice.tenant_guid,
        tenant_name=notice.tenant_name,
        instance_name=notice.instance_name,
        level=notice.level,
        message=notice.message,
        content=content,
        created_ms=now_ms,
        source=notice.source,
    )
