"""What people do with alerts. Work for the committer; who may is decided by `operations.alert_rights`.

Each deed is a change of the alert, with a record in the audit of its owner. One that changes nothing is written into the audit alone.
"""

from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.access import OWNER_WORDS, Permission, access_of
from tenantry.master.domain.alerts import (
    MAX_COMMENT,
    MAX_COMMENTS,
    Alert,
    AlertChange,
    AlertEvent,
    AlertStatus,
    ChangeKind,
    Classification,
    advance,
    check_etag,
)
from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import AlertCommentsTooMany, FieldInvalid
from tenantry.protocol.names import check_text

_ACTIONS: Final = {event: f"alert.{event.value}" for event in AlertEvent}


@dataclass(frozen=True, slots=True)
class Deed:
    """What every deed brings along: who does it, as a user too, the etag that must be the current one if set, and a comment.

    ``knows_everybody``: whether who does it may read all users; others give alerts to who holds a role at the alert's owner.
    """

    actor: Actor
    user: str
    now_ms: int
    etag: str = ""
    comment: str = ""
    knows_everybody: bool = False


def step(transaction: Transaction, alert: Alert, deed: Deed, event: AlertEvent) -> Alert:
    """Acknowledge, start, pend or reopen an alert. Raises AlertChanged, AlertInWrongStatus, FieldInvalid, AlertCommentsTooMany."""
    _check(alert, deed)
    status = advance(alert, event)
    after = replace(alert, status=status)
    if event is AlertEvent.STARTED and not alert.assignee:
        after = replace(after, assignee=deed.user)
    if event is AlertEvent.REOPENED:
        taken = transaction.alerts.filled_by([alert.filling_key])
        after = replace(after, resolved_ms=None, filling=not taken)
    return _write(transaction, alert, after, deed, _ACTIONS[event])


def assign(transaction: Transaction, alert: Alert, deed: Deed, assignee: str) -> Alert:
    """Give an alert to somebody, or with an empty name to nobody. Raises as `step`; FieldInvalid for who may not work on it."""
    _check(alert, deed)
    if not assignee and not alert.assignee:
        return _write(transaction, alert, alert, deed, _ACTIONS[AlertEvent.UNASSIGNED])
    event = AlertEvent.ASSIGNED if assignee else AlertEvent.UNASSIGNED
    name = _find_assignee(transaction, alert, deed, assignee) if assignee else ""
    after = replace(alert, status=advance(alert, event), assignee=name)
    return _write(transaction, alert, after, deed, _ACTIONS[event])


def resolve(transaction: Transaction, alert: Alert, deed: Deed, classification: Classification | None) -> Alert:
    """End the work on an alert; None leaves its classification as it is. Raises as `step`."""
    _check(alert, deed)
    status = advance(alert, AlertEvent.RESOLVED)
    after = replace(
        alert,
        status=status,
        classification=classification or alert.classification,
        filling=False,
        resolved_ms=alert.resolved_ms or deed.now_ms,
        muted_until_ms=None,
    )
    return _write(transaction, alert, after, deed, _ACTIONS[AlertEvent.RESOLVED])


def classify(transaction: Transaction, alert: Alert, deed: Deed, classification: Classification) -> Alert:
    """Say what an alert turned out to be. Raises AlertChanged, FieldInvalid, AlertCommentsTooMany."""
    _check(alert, deed)
    return _write(transaction, alert, replace(alert, classification=classification), deed, "alert.classify")


def comment(transaction: Transaction, alert: Alert, deed: Deed) -> Alert:
    """Write something down about an alert. Raises AlertChanged, FieldInvalid, AlertCommentsTooMany."""
    if not deed.comment.strip():
        raise FieldInvalid(field="comment", problem="is empty", expected=f"1 to {MAX_COMMENT} characters")
    _check(alert, deed)
    return _write(transaction, alert, alert, deed, "alert.comment")


def close(transaction: Transaction, alert: Alert, deed: Deed) -> Alert:
    """Nothing fills the alert any more. Raises AlertChanged, FieldInvalid, AlertCommentsTooMany."""
    _check(alert, deed)
    return _write(transaction, alert, replace(alert, filling=False), deed, "alert.close")


def resolve_of_deleted(transaction: Transaction, actor: Actor, tenant_id: int, now_ms: int) -> None:
    """Resolve the open alerts about a Tenant that is being deleted: nothing will come of them any more."""
    for alert in transaction.alerts.unresolved_of([tenant_id]):
        deed = Deed(actor, "", now_ms, comment="its Tenant was deleted")
        resolve(transaction, replace(alert, standing={}, over_ms=alert.over_ms or now_ms), deed, None)


def _check(alert: Alert, deed: Deed) -> None:
    check_etag(alert, deed.etag)
    check_text(deed.comment, "comment", MAX_COMMENT, lines=True)
    if deed.comment and alert.comments >= MAX_COMMENTS:
        raise AlertCommentsTooMany(alert=alert.uid, limit=MAX_COMMENTS)


def _find_assignee(transaction: Transaction, alert: Alert, deed: Deed, name: str) -> str:
    user = transaction.users.by_name(name.casefold())
    if user is not None and user.disabled_ms is None:
        held = transaction.role_bindings.of_user(user.id)
        if not deed.knows_everybody and user.name != deed.user:
            held = [one for one in held if one.owner == alert.owner]
        if access_of(held).allows(Permission.ALERT_WORK, alert.owner):
            return user.name
    # The same for nobody and for somebody: who works on alerts does not thereby learn who there is, general administrators included.
    raise FieldInvalid(
        field="assignee", problem="is nobody who may work on this alert", expected="a user with alert.work at its owner"
    )


def _write(transaction: Transaction, before: Alert, after: Alert, deed: Deed, action: str) -> Alert:
    changes = list(_changes(before, after, deed))
    if changes:
        after = replace(
            after,
            version=before.version + 1,
            updated_ms=deed.now_ms,
            comments=before.comments + bool(deed.comment.strip()),
        )
        [after] = transaction.alerts.save([after])
        transaction.alerts.note(changes)
    word, tenant_id = OWNER_WORDS.get(after.owner), None
    if word is None:
        word, tenant_id = transaction.tenants.standings_of({after.owner})[after.owner].guid, after.owner
    facts: dict[str, JsonValue] = {"alert": after.uid, "rule": after.rule, "owner": word, "status": after.status.value}
    record = journal.audit(
        deed.actor, action, deed.now_ms, tenant_id, None, **facts, **journal.if_unchanged(bool(changes))
    )
    transaction.records.append([record])
    return after


def _changes(before: Alert, after: Alert, deed: Deed) -> list[AlertChange]:
    """What is different, one change each; the comment stands with the first, or is one of its own."""
    found: list[tuple[ChangeKind, dict[str, JsonValue]]] = []
    if after.status is not before.status:
        found.append((ChangeKind.STATUS, {"from": before.status.value, "to": after.status.value}))
    if after.assignee != before.assignee:
        found.append((ChangeKind.ASSIGNED, {"from": before.assignee, "to": after.assignee}))
    if after.classification is not before.classification:
        facts: dict[str, JsonValue] = {"from": before.classification.value, "to": after.classification.value}
        found.append((ChangeKind.CLASSIFIED, facts))
    if before.filling and not after.filling and after.status is not AlertStatus.RESOLVED:
        found.append((ChangeKind.CLOSED, {}))
    if deed.comment.strip():
        if not found:
            found.append((ChangeKind.COMMENTED, {}))
        found[0][1]["comment"] = deed.comment
    actor = str(deed.actor)
    return [AlertChange(after.id, after.owner, deed.now_ms, actor, kind, facts) for kind, facts in found]
