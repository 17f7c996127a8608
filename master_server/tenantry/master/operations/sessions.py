"""Sessions: what every way of signing in ends in. Work for the committer, and what is remembered of their use."""

import secrets
from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.access import Permission
from tenantry.master.domain.people import Token, TokenKind, User
from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import NotASession, SessionEnded
from tenantry.protocol.joining import ID_BYTES, SECRET_BYTES, TOKEN_PREFIX, Secret, make_secret

LIFETIME_MS: Final = 12 * 3_600_000
IDLE_MS: Final = 3_600_000
MAX_SESSIONS: Final = 50
"""Of a user; a further one ends the oldest."""
MAX_SOURCES: Final = 20
"""From which a user has signed in, that are remembered."""
KEPT_MS: Final = 7 * 86_400_000
"""So long an ended session can be listed."""
NOTED_EVERY_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """How long sessions live, used and unused, in milliseconds, and whether a password alone opens one that is good for anything."""

    lifetime_ms: int = LIFETIME_MS
    idle_ms: int = IDLE_MS
    second_factor_required: bool = False


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A new session: the only place where its token is."""

    user: User
    token: Token
    secret: Secret


def new_token_secret() -> Secret:
    """A new bearer token."""
    return make_secret(TOKEN_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES))


def open_session(
    transaction: Transaction,
    actor: Actor,
    user: User,
    secret: Secret,
    *,
    method: str,
    source: str,
    terms: SessionTerms,
    now_ms: int,
    permissions: frozenset[Permission] | None = None,
) -> OpenedSession:
    """A session for a user who has proven who it is.

    ``method`` says how, for the audit and the listing; ``source`` is where from (`sign_in_limits.source_of`), remembered as one
    from which the user may always try; an empty one is not. ``permissions`` narrow what the session is good for; None: nothing does.
    """
    signed_in = replace(user, last_sign_in_ms=now_ms)
    transaction.users.note_sign_in(signed_in)
    transaction.tokens.forget_sessions(now_ms - KEPT_MS)
    living = transaction.tokens.page((0, ""), 10_000, user_id=user.id, living_at_ms=now_ms)
    sessions = [token for token in living if token.kind is TokenKind.SESSION]
    for oldest in sessions[: max(0, len(sessions) - MAX_SESSIONS + 1)]:
        transaction.tokens.revoke(oldest.id, now_ms)
    token = Token(
        secret.id,
        secret.hash,
        f"{method} sign-in",
        now_ms,
        user_id=user.id,
        kind=TokenKind.SESSION,
        permissions=permissions,
        expires_ms=now_ms + terms.lifetime_ms,
    )
    transaction.tokens.insert(token)
    if source:
        transaction.sign_in_sources.note(user.id, source, now_ms, MAX_SOURCES)
    facts: dict[str, JsonValue] = {"user": user.name, "session": token.id, "method": method}
    if permissions is not None:
        facts["permissions"] = [*map(str, sorted(permissions))]
    transaction.records.append([journal.audit(actor, "session.open", now_ms, None, None, **facts)])
    return OpenedSession(signed_in, token, secret)


def close_session(transaction: Transaction, actor: Actor, token_id: str, now_ms: int) -> None:
    """End a session by its own token. Raises NotASession."""
    token = transaction.tokens.by_id(token_id)
    if token is None or token.kind is not TokenKind.SESSION:
        raise NotASession
    if token.revoked_ms is None:
        transaction.tokens.revoke(token_id, now_ms)
        transaction.records.append([journal.audit(actor, "session.close", now_ms, session=token_id)])


class TokenUses:
    """When each token was used last, in memory; written down in batches. Lives on the event loop. Times are Unix milliseconds."""

    def __init__(self, terms: SessionTerms) -> None:
        self._terms = terms
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def note(self, token_id: str, kind: TokenKind, stored_ms: int, now_ms: int) -> None:
        """A token is used now. ``stored_ms``: when it was used last, or made, as it was read from the store.

        Raises SessionEnded for a session that was not used for too long.
        """
        last_ms = max(self._used.get(token_id, 0), stored_ms)
        if kind is TokenKind.SESSION and now_ms - last_ms > self._terms.idle_ms:
            raise SessionEnded(cause="it was not used for too long")
        self._used[token_id] = now_ms

    def take(self, now_ms: int) -> dict[str, int]:
        """What is to be written down: the tokens that were used a minute or more after what was written last."""
        due = {
            token_id: used_ms
            for token_id, used_ms in self._used.items()
            if used_ms - self._written.get(token_id, 0) >= NOTED_EVERY_MS
        }
        self._written.update(due)
        # What nobody has used for so long need not be remembered: the store knows it, or the session has ended.
        for token_id in [key for key, used_ms in self._used.items() if now_ms - used_ms > self._terms.idle_ms]:
            if token_id not in due:
                del self._used[token_id]
                self._written.pop(token_id, None)
        return due

    def failed(self, due: dict[str, int]) -> None:
        """They could not be written down: they are due again."""
        for token_id in due:
            self._written.pop(token_id, None)
