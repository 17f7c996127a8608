"""Receivers as operators handle them. Work for the committer; who may do what with which, `operations.receiver_rights` decides."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from tenantry.master.delivering.templates import check_template
from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER, Sight
from tenantry.master.domain.deliveries import DeliveryState
from tenantry.master.domain.privacy import kept
from tenantry.master.domain.receivers import (
    MAX_RECEIVERS,
    Receiver,
    ReceiverDraft,
    ReceiverStatus,
    Settings,
    check_complete,
    check_draft,
    check_etag,
    check_secrets,
    check_subscription,
    most_receivers,
)
from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.rules import RuleDraft
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.outbox import may_tell, owner_word
from tenantry.master.operations.receiver_rights import ReceiverRights
from tenantry.master.operations.sealing import Seal, receiver_secret
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, ReceiverInUse, ReceiverNotFound, ReceiversTooMany

EDITABLE: Final = ("name", "description", "active", "settings", "privacy", "subscription")
"""The paths of an update, as the contract names them."""


def check_settings(settings: Settings) -> None:
    """Raise TemplateInvalid unless all templates may be used."""
    for name, template in settings.templates().items():
        check_template(name, template)


def create_receiver(
    transaction: Transaction,
    actor: Actor,
    draft: ReceiverDraft,
    secrets: Mapping[str, str],
    seal: Seal,
    *,
    owner: int,
    uid: str,
    now_ms: int,
) -> Receiver:
    """Keep a new receiver of this owner. Raises FieldInvalid, TemplateInvalid, ReceiverNameTaken, ReceiversTooMany."""
    checked = check_draft(draft)
    check_subscription(owner, checked.subscription)
    check_settings(checked.settings)
    given = {name: secret for name, secret in secrets.items() if secret}
    check_secrets(checked.settings, given)
    check_complete(checked.settings, given)
    if transaction.receivers.count_at(owner) >= most_receivers(owner):
        raise ReceiversTooMany(whose="this owner", limit=most_receivers(owner))
    if owner > MAIN_OWNER and transaction.receivers.count_of_tenants() >= MAX_RECEIVERS:
        raise ReceiversTooMany(whose="all Tenants together", limit=MAX_RECEIVERS)
    sealed = _seal(seal, uid, checked.settings, given)
    receiver = transaction.receivers.insert(uid, checked, sealed, now_ms, owner=owner)
    transaction.records.append([_audit(transaction, actor, "receiver.create", receiver, now_ms)])
    return receiver


def update_receiver(
    transaction: Transaction,
    actor: Actor,
    receiver: Receiver,
    etag: str,
    draft: ReceiverDraft,
    paths: tuple[str, ...],
    secrets: Mapping[str, str],
    seal: Seal,
    now_ms: int,
) -> Receiver:
    """Change the fields in ``paths`` to those of ``draft``, and these secrets.

    Raises FieldInvalid, TemplateInvalid, ReceiverChanged, ReceiverNameTaken.
    """
    expected = f"paths among {', '.join(EDITABLE)}"
    if not paths and not secrets:
        raise FieldInvalid(field="update_mask", problem="is empty", expected=expected)
    if any(path not in EDITABLE for path in paths):
        raise FieldInvalid(field="update_mask", problem="names a field that cannot be edited", expected=expected)
    check_etag(receiver, etag)
    before = receiver.draft
    changes = {path: getattr(draft, path) for path in paths}
    if "privacy" in changes:
        changes["privacy"] = kept(before.privacy, draft.privacy)
    checked = check_draft(replace(before, **changes))
    check_subscription(receiver.owner, checked.subscription)
    settings = checked.settings
    if settings.kind is not before.settings.kind:
        raise FieldInvalid(field="settings", problem="are of another kind", expected=f"those of {before.settings.kind}")
    check_settings(settings)
    check_secrets(settings, secrets)
    sealed = {name: one for name, one in receiver.secrets.items() if name not in secrets}
    given = {name: secret for name, secret in secrets.items() if secret}
    if sealed and settings.destination != before.settings.destination:
        raise FieldInvalid(
            field="secrets",
            problem=f"({', '.join(sorted(sealed))}) belong to the place where they were sent to",
            expected="each of them again, or taken away, where host, port or protection change",
        )
    check_complete(settings, {*sealed, *given})
    changed = replace(
        receiver,
        draft=checked,
        secrets={**sealed, **_seal(seal, receiver.uid, settings, given)},
        version=receiver.version + 1,
        updated_ms=now_ms,
    )
    transaction.receivers.save(changed)
    facts: dict[str, JsonValue] = {"fields": list(paths), "secrets": [*sorted(secrets)]}
    transaction.records.append([_audit(transaction, actor, "receiver.update", changed, now_ms, **facts)])
    return changed


def delete_receiver(transaction: Transaction, actor: Actor, receiver: Receiver, etag: str, now_ms: int) -> None:
    """Forget a receiver; what waits for it is given up. Raises ReceiverChanged, ReceiverInUse."""
    check_etag(receiver, etag)
    if transaction.rules.telling(receiver.uid):
        raise ReceiverInUse(receiver=receiver.name)
    given_up = transaction.deliveries.let_go(receiver.id, "the receiver was deleted", now_ms)
    transaction.receivers.delete(receiver)
    transaction.records.append(
        [_audit(transaction, actor, "receiver.delete", receiver, now_ms, deliveries_given_up=given_up)]
    )


def delete_receivers_of(transaction: Transaction, actor: Actor, tenant_id: int, now_ms: int) -> None:
    """Forget the receivers of a Tenant that is being deleted, and give up what waits of it. Its rules must be gone before."""
    why = "the Tenant was deleted"
    transaction.deliveries.give_up_of(tenant_id, why, now_ms)
    for receiver in transaction.receivers.at(tenant_id):
        transaction.deliveries.let_go(receiver.id, why, now_ms)
        transaction.receivers.delete(receiver)
        record = _audit(transaction, actor, "receiver.delete", receiver, now_ms, reason="its Tenant was deleted")
        transaction.records.append([record])


def note_test(
    transaction: Transaction, actor: Actor, receiver: Receiver, outcome: str, now_ms: int, *, delivered: bool
) -> None:
    """Write down that somebody had a receiver tried, and how that went."""
    transaction.receivers.note(receiver.id, outcome, failing=not delivered, now_ms=now_ms)
    record = _audit(transaction, actor, "receiver.test", receiver, now_ms, delivered=delivered, result=outcome)
    transaction.records.append([record])


def statuses(
    transaction: Transaction, rights: ReceiverRights, receivers: Collection[Receiver], sight: Sight
) -> dict[int, ReceiverStatus]:
    """What of the deliveries within sight waits for receivers, and how the newest attempt at each went, by number.

    A receiver of the shared tenant is told of everybody's alerts: how that went, and when, is for those who look after it.
    """
    numbers = [receiver.id for receiver in receivers]
    kept = [
        one.id
        for one in receivers
        if one.owner != SHARED_OWNER or rights.changed is None or one.owner in rights.changed
    ]
    counts, outcomes = transaction.deliveries.counts(numbers, sight), transaction.receivers.outcomes(kept)
    return {
        number: ReceiverStatus(
            counts.get((number, DeliveryState.WAITING), 0),
            counts.get((number, DeliveryState.DEAD), 0),
            *outcomes.get(number, ("", None, False)),
        )
        for number in numbers
    }


def resolve_notified(
    transaction: Transaction, rights: ReceiverRights, owner: int, draft: RuleDraft, known: Collection[str] = ()
) -> RuleDraft:
    """A rule's draft with ids where it names receivers: of the rule's owner, or of the shared tenant, as far as the caller sees them.

    ``known``: those that the rule tells already, which stay whoever edits it. Raises ReceiverNotFound.
    """
    actions = tuple(
        replace(action, receiver=_resolve(transaction, rights, owner, action.receiver, known))
        if action.receiver
        else action
        for action in draft.actions
    )
    return replace(draft, actions=actions)


def names_of(transaction: Transaction, rights: ReceiverRights, uids: Collection[str]) -> dict[str, str]:
    """The names of those of these receivers that the caller sees, by id."""
    if not uids:
        return {}
    found = transaction.receivers.by_uids(frozenset(uids))
    return {uid: receiver.name for uid, receiver in found.items() if rights.sees(receiver)}


def _resolve(transaction: Transaction, rights: ReceiverRights, owner: int, named: str, known: Collection[str]) -> str:
    if named in known:
        return named
    by_uid = transaction.receivers.by_uids([named]).get(named)
    candidates = (
        by_uid,
        transaction.receivers.named(owner, named),
        transaction.receivers.named(SHARED_OWNER, named),
    )
    for receiver in candidates:
        if receiver is not None and may_tell(owner, receiver) and rights.sees(receiver):
            return receiver.uid
    raise ReceiverNotFound(receiver=named)


def _seal(seal: Seal, uid: str, settings: Settings, secrets: Mapping[str, str]) -> dict[str, str]:
    destination = settings.destination.describe()
    return {name: seal.seal(receiver_secret(uid, name, destination), secret) for name, secret in secrets.items()}


def _audit(
    transaction: Transaction, actor: Actor, action: str, receiver: Receiver, now_ms: int, **facts: JsonValue
) -> NewRecord:
    """What was done with a receiver, for those who may read the audit of its owner."""
    word, tenant_id = owner_word(transaction, receiver.owner)
    named: dict[str, JsonValue] = {"receiver": receiver.name, "receiver_id": receiver.uid, "owner": word}
    return journal.audit(actor, action, now_ms, tenant_id, None, **named, **facts)
