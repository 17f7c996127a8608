"""Users: make, edit, disable, erase, give passwords and second factors. Work for the committer.

Each function runs in a transaction and writes its audit record in the same one. Who may call is decided before; here is looked
after that nobody acts on a user who may do more than the caller, and that an administrator is left.
"""

from dataclasses import dataclass, replace

from tenantry.master.domain.access import access_of
from tenantry.master.domain.people import TokenKind, User, check_user_etag, check_user_name, fold_user_name
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.ways_in import keeping_a_way_in
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    FieldInvalid,
    NotAllowed,
    NotAMachine,
    SecondFactorInForce,
    SecondFactorNotEnrolled,
    UserChanged,
    UserNameTaken,
    UserNotFound,
)
from tenantry.protocol.names import MAX_NAME, MAX_REASON, check_mail, check_text

EDITABLE = ("display_name", "email")


@dataclass(frozen=True, slots=True)
class UserDraft:
    """What may be said about a user; not checked yet."""

    name: str
    display_name: str = ""
    email: str = ""
    machine: bool = False


def find_user(transaction: Transaction, name: str) -> User:
    """The user of this name. Raises UserNotFound."""
    user = transaction.users.by_name(fold_user_name(name))
    if user is None:
        raise UserNotFound(user=name[:80])
    return user


def guarded_user(transaction: Transaction, viewer: Viewer, name: str) -> User:
    """The user of this name, when the caller is the user, by no narrowed token, or may do all that the user may do.

    Raises UserNotFound, NotAllowed.
    """
    user = find_user(transaction, name)
    if user.id == viewer.user_id and not viewer.narrowed:
        return user
    if not viewer.access.covers(access_of(transaction.role_bindings.of_user(user.id))):
        raise NotAllowed(permission="to do all that the user may do")
    return user


def create_user(transaction: Transaction, actor: Actor, draft: UserDraft, password: str | None, now_ms: int) -> User:
    """A new user without roles; ``password`` is a hash. Raises FieldInvalid, UserNameTaken, NotAMachine."""
    name = check_user_name(draft.name, machine=draft.machine)
    if draft.machine and password is not None:
        raise NotAMachine(user=name, wanted="a password")
    if transaction.users.by_name(name) is not None:
        raise UserNameTaken(name=name)
    user = transaction.users.insert(
        User(
            0,
            name,
            _check_display_name(draft.display_name),
            _check_email(draft.email),
            now_ms,
            machine=draft.machine,
            password=password,
        )
    )
    transaction.records.append([journal.audit(actor, "user.create", now_ms, user=name, machine=draft.machine)])
    return user


def update_user(
    transaction: Transaction,
    actor: Actor,
    viewer: Viewer,
    draft: UserDraft,
    paths: tuple[str, ...],
    etag: str,
    now_ms: int,
) -> User:
    """Change the fields in ``paths``. Raises FieldInvalid, UserNotFound, UserChanged, NotAllowed."""
    if not paths or any(path not in EDITABLE for path in paths):
        expected = f"paths among {', '.join(EDITABLE)}"
        raise FieldInvalid(field="update_mask", problem="is empty or names what cannot be edited", expected=expected)
    user = guarded_user(transaction, viewer, draft.name)
    check_user_etag(user, etag)
    changed = replace(
        user,
        display_name=_check_display_name(draft.display_name) if "display_name" in paths else user.display_name,
        email=_check_email(draft.email) if "email" in paths else user.email,
    )
    transaction.records.append([journal.audit(actor, "user.update", now_ms, user=user.name, fields=list(paths))])
    return _save(transaction, changed)


def disable_user(
    transaction: Transaction, actor: Actor, viewer: Viewer, name: str, etag: str, reason: str, now_ms: int
) -> User:
    """Refuse everything of a user, and end the user's sessions. Raises as `update_user`, LastAdministrator, LastCredential."""
    reason = check_text(reason, "reason", MAX_REASON)
    user = guarded_user(transaction, viewer, name)
    check_user_etag(user, etag)
    if user.disabled_ms is not None:
        record = journal.audit(actor, "user.disable", now_ms, user=user.name, reason=reason, unchanged=True)
        transaction.records.append([record])
        return user
    ended = transaction.tokens.revoke_of_user(user.id, now_ms, TokenKind.SESSION)
    transaction.records.append(
        [journal.audit(actor, "user.disable", now_ms, user=user.name, reason=reason, sessions=len(ended))]
    )
    with keeping_a_way_in(transaction, user.name, now_ms):
        return _save(transaction, replace(user, disabled_ms=now_ms))


def enable_user(
    transaction: Transaction, actor: Actor, viewer: Viewer, name: str, etag: str, reason: str, now_ms: int
) -> User:
    """Let a disabled user in again. Raises as `update_user`."""
    reason = check_text(reason, "reason", MAX_REASON)
    user = guarded_user(transaction, viewer, name)
    check_user_etag(user, etag)
    facts = {"user": user.name, "reason": reason, **journal.if_unchanged(user.disabled_ms is not None)}
    transaction.records.append([journal.audit(actor, "user.enable", now_ms, None, None, **facts)])
    if user.disabled_ms is None:
        return user
    return _save(transaction, replace(user, disabled_ms=None))


def delete_user(
    transaction: Transaction, actor: Actor, viewer: Viewer, name: str, etag: str, reason: str, now_ms: int
) -> None:
    """Erase a user; the records about the user stay. Raises as `disable_user`."""
    reason = check_text(reason, "reason", MAX_REASON)
    user = guarded_user(transaction, viewer, name)
    check_user_etag(user, etag)
    with keeping_a_way_in(transaction, user.name, now_ms):
        transaction.users.delete(user.id)
    transaction.records.append([journal.audit(actor, "user.delete", now_ms, user=user.name, reason=reason)])


def set_password(
    transaction: Transaction, actor: Actor, user: User, password: str, now_ms: int, *, spare: str = ""
) -> User:
    """Give a user, as read in this transaction, a password (its hash), and end the sessions but ``spare``.

    Raises NotAMachine, UserChanged.
    """
    if user.machine:
        raise NotAMachine(user=user.name, wanted="a password")
    ended = transaction.tokens.revoke_of_user(user.id, now_ms, TokenKind.SESSION, spare)
    transaction.records.append([journal.audit(actor, "user.set_password", now_ms, user=user.name, sessions=len(ended))])
    return _save(transaction, replace(user, password=password))


def enrol_second_factor(transaction: Transaction, actor: Actor, user: User, sealed: str, now_ms: int) -> User:
    """Keep a second factor's sealed secret until it is confirmed. Raises SecondFactorInForce, NotAMachine, UserChanged."""
    if user.machine:
        raise NotAMachine(user=user.name, wanted="a second factor")
    if user.second_factor:
        raise SecondFactorInForce(user=user.name)
    transaction.records.append([journal.audit(actor, "user.enrol_second_factor", now_ms, user=user.name)])
    return _save(transaction, replace(user, totp=sealed, totp_used_step=None, recovery_codes=()))


def confirm_second_factor(
    transaction: Transaction, actor: Actor, user: User, recovery_codes: tuple[str, ...], now_ms: int, *, spare: str
) -> User:
    """Put the second factor of a user in force whose code was right, and end the sessions but ``spare``.

    ``recovery_codes`` are hashes. Raises as enrolling does.
    """
    if user.totp is None:
        raise SecondFactorNotEnrolled(user=user.name)
    if user.second_factor:
        raise SecondFactorInForce(user=user.name)
    ended = transaction.tokens.revoke_of_user(user.id, now_ms, TokenKind.SESSION, spare)
    transaction.records.append(
        [journal.audit(actor, "user.confirm_second_factor", now_ms, user=user.name, sessions=len(ended))]
    )
    return _save(transaction, replace(user, totp_confirmed_ms=now_ms, recovery_codes=recovery_codes))


def remove_second_factor(transaction: Transaction, actor: Actor, user: User, now_ms: int, *, spare: str) -> User:
    """Take a second factor away, confirmed or not, and end the sessions but ``spare``.

    Raises SecondFactorNotEnrolled, UserChanged.
    """
    if user.totp is None:
        raise SecondFactorNotEnrolled(user=user.name)
    ended = transaction.tokens.revoke_of_user(user.id, now_ms, TokenKind.SESSION, spare)
    transaction.records.append(
        [journal.audit(actor, "user.remove_second_factor", now_ms, user=user.name, sessions=len(ended))]
    )
    return _save(transaction, replace(user, totp=None, totp_confirmed_ms=None, totp_used_step=None, recovery_codes=()))


def _save(transaction: Transaction, user: User) -> User:
    saved = transaction.users.save(user)
    if saved is None:
        raise UserChanged(user=user.name, etag="")
    return saved


def _check_display_name(text: str) -> str:
    return check_text(text.strip(), "display_name", MAX_NAME)


def _check_email(text: str) -> str:
    address = text.strip()
    return check_mail(address, "email") if address else ""
