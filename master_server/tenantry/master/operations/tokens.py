"""API tokens, and the listing and ending of tokens and sessions. Work for the committer."""

from dataclasses import dataclass
from typing import TypeVar

from tenantry.master.domain.access import MAIN_OWNER, Permission
from tenantry.master.domain.people import (
    MAX_TOKEN_LIFETIME_MS,
    MIN_TOKEN_LIFETIME_MS,
    Token,
    TokenKind,
    User,
    check_lifetime,
    fold_user_name,
)
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.users import find_user, guarded_user
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.ways_in import keeping_a_way_in
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, NotAllowed, TokenNotFound
from tenantry.protocol.joining import Secret
from tenantry.protocol.names import check_name

T = TypeVar("T")

MAX_TOKENS = 200
"""API tokens of a user that live at a time."""


@dataclass(frozen=True, slots=True)
class TokenDraft:
    """What a new token is to be; not checked yet. ``permissions`` and ``owners``: None where nothing is narrowed."""

    name: str
    user: str
    permissions: frozenset[Permission] | None
    owners: frozenset[int] | None
    lifetime_ms: int


def create_token(
    transaction: Transaction, actor: Actor, viewer: Viewer, draft: TokenDraft, secret: Secret, now_ms: int
) -> tuple[Token, User]:
    """A new API token, narrowed at least as the caller's own, and ending no later than a token by which it is made.

    Raises FieldInvalid, UserNotFound, NotAllowed.
    """
    name = check_name(draft.name, "name")
    check_lifetime(draft.lifetime_ms, MIN_TOKEN_LIFETIME_MS, MAX_TOKEN_LIFETIME_MS)
    wanted = fold_user_name(draft.user) or viewer.user_name
    # Before anybody looks whether there is such a user: the answer tells nobody else.
    if wanted != viewer.user_name and not viewer.access.allows(Permission.USER_WRITE, MAIN_OWNER):
        raise NotAllowed(permission=Permission.USER_WRITE)
    own = wanted == viewer.user_name  # what it makes of itself is narrowed below
    user = find_user(transaction, wanted) if own else guarded_user(transaction, viewer, wanted)
    living = transaction.tokens.page((0, ""), MAX_TOKENS, user_id=user.id, living_at_ms=now_ms)
    if len(living) >= MAX_TOKENS:
        raise FieldInvalid(field="user", problem="has too many tokens", expected=f"fewer than {MAX_TOKENS}")
    expires_ms = now_ms + draft.lifetime_ms
    if viewer.kind is TokenKind.API and viewer.expires_ms is not None:
        expires_ms = min(expires_ms, viewer.expires_ms)
    token = Token(
        secret.id,
        secret.hash,
        name,
        now_ms,
        user_id=user.id,
        permissions=_within(draft.permissions, viewer.permissions, "scope.permissions"),
        owners=_within(draft.owners, viewer.owners, "scope.owners"),
        expires_ms=expires_ms,
    )
    transaction.tokens.insert(token)
    transaction.records.append(
        [
            journal.audit(
                actor,
                "token.create",
                now_ms,
                id=token.id,
                name=name,
                user=user.name,
                permissions=None if token.permissions is None else [*map(str, sorted(token.permissions))],
                expires_ms=token.expires_ms,
            )
        ]
    )
    return token, user


def revoke_token(
    transaction: Transaction, actor: Actor, viewer: Viewer, token_id: str, now_ms: int, *, lock_out: bool = False
) -> tuple[Token, User]:
    """End a token or a session: the caller's own, or with user.write anybody's; by a narrowed token none that is wider.

    ``lock_out``: also when no general administrator can sign in after it. Raises TokenNotFound, NotAllowed, LastCredential.
    """
    token = transaction.tokens.by_id(token_id)
    user = transaction.users.by_id(token.user_id) if token is not None else None
    if token is None or user is None:
        raise TokenNotFound(token=token_id[:40])
    if user.id != viewer.user_id:
        if not viewer.access.allows(Permission.USER_WRITE, MAIN_OWNER):
            raise TokenNotFound(token=token_id[:40])
        guarded_user(transaction, viewer, user.name)
    if viewer.narrowed and not _is_within(token, viewer):
        raise NotAllowed(permission="to do all that the token may do")
    facts = {"id": token.id, "name": token.name, "user": user.name, **journal.if_unchanged(token.revoked_ms is None)}
    transaction.records.append([journal.audit(actor, "token.revoke", now_ms, None, None, **facts)])
    if token.revoked_ms is None:
        with keeping_a_way_in(transaction, user.name, now_ms, lock_out=lock_out):
            transaction.tokens.revoke(token_id, now_ms)
        token = transaction.tokens.by_id(token_id) or token
    return token, user


def _is_within(token: Token, viewer: Viewer) -> bool:
    """Whether a token is narrowed at least as the caller's own."""
    by_permissions = viewer.permissions is None or (
        token.permissions is not None and token.permissions <= viewer.permissions
    )
    return by_permissions and (viewer.owners is None or (token.owners is not None and token.owners <= viewer.owners))


def _within(wanted: frozenset[T] | None, own: frozenset[T] | None, field: str) -> frozenset[T] | None:
    """What the new token is narrowed to: what was asked for, but never wider than the caller's own."""
    if wanted is None or own is None:
        return own if wanted is None else wanted
    if not wanted <= own:
        raise NotAllowed(permission=f"of its own to give the {field} away")
    return wanted
