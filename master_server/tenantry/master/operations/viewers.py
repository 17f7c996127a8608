"""Who is signed in and may do what: in memory, as the last commit left it. Lives on the event loop.

A change of a user, a token, a role or a membership marks the directory as behind before whoever asked for the change is
answered; the next call waits until it has caught up. What a caller has lost therefore acts on the very next call, and calls that
are open for long are told at once.
"""

import asyncio
import datetime as dt
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, Access, Permission, Role, access_of, roles_of
from tenantry.master.domain.people import MachineCertificate, Token, TokenKind
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    CertificateExpired,
    CertificateRevoked,
    NotSignedIn,
    SessionEnded,
    StoreUnavailable,
)
from tenantry.protocol.joining import TOKEN_PREFIX, parse_secret

CATCH_UP_S: Final = 5.0
"""So long a call waits for the directory; then it is refused, because nobody knows what its caller may do."""
_BEARER: Final = "bearer "
_CERTIFICATE: Final = "certificate "


@dataclass(frozen=True, slots=True)
class Viewer:
    """One signed-in caller: a user by one token, with what this token leaves of the user's rights.

    ``roles`` are those held at each owner, as they are without the token's scope. Times are Unix milliseconds.
    """

    token_id: str
    token_name: str
    kind: TokenKind
    user_id: int
    user_name: str
    access: Access
    roles: Mapping[int, frozenset[Role]] = field(default_factory=dict)
    permissions: frozenset[Permission] | None = None
    owners: frozenset[int] | None = None
    expires_ms: int | None = None
    used_ms: int = 0
    """When the token was used last, or made, as the store had it."""

    @property
    def unbounded(self) -> bool:
        """Whether this is a general administrator, whom privacy does not bind."""
        return Role.GENERAL_ADMINISTRATOR in self.roles.get(MAIN_OWNER, frozenset())

    @property
    def narrowed(self) -> bool:
        """Whether this is a token that was made to allow less than its user may do."""
        return self.kind is TokenKind.API and (self.permissions is not None or self.owners is not None)

    @property
    def actor_name(self) -> str:
        """How the caller is called in records: the user, and the token where it is not a session's."""
        return self.user_name if self.kind is TokenKind.SESSION else f"{self.user_name}/{self.token_name}"

    def may_the_same(self, other: "Viewer") -> bool:
        """Whether both may do the same, wherever they ask."""
        return self.access == other.access and self.roles == other.roles


@dataclass(frozen=True, slots=True)
class SignedIn:
    """All usable tokens of one user."""

    user_id: int
    tokens: tuple[tuple[str, Viewer], ...]
    """The hash of each, and what it allows."""


def load_signed_in(transaction: Transaction, user_ids: Collection[int] | None = None) -> list[SignedIn]:
    """What these users (None: all) may do by which token; a user who is disabled or gone has none."""
    return [_load_user(transaction, number) for number in (transaction.users.ids() if user_ids is None else user_ids)]


def _load_user(transaction: Transaction, user_id: int) -> SignedIn:
    user = transaction.users.by_id(user_id)
    if user is None or user.disabled_ms is not None:
        return SignedIn(user_id, ())
    tokens = [token for token in transaction.tokens.of_user(user_id) if token.revoked_ms is None]
    certificates = transaction.machine_certificates.of_user(user_id) if user.machine else []
    tokens += [_as_token(certificate) for certificate in certificates if certificate.revoked_ms is None]
    if not tokens:
        return SignedIn(user_id, ())
    bindings = transaction.role_bindings.of_user(user_id)
    access, roles = access_of(bindings), roles_of(bindings)
    return SignedIn(user_id, tuple((token.hash, make_viewer(token, user.name, access, roles)) for token in tokens))


def _as_token(certificate: MachineCertificate) -> Token:
    """A machine's certificate, for the directory: an id that no bearer token can name, and a hash that none can have."""
    return Token(
        _CERTIFICATE + certificate.serial,
        "",
        f"certificate {certificate.serial[:8]}",
        certificate.issued_ms,
        user_id=certificate.user_id,
        expires_ms=certificate.not_after_ms,
    )


def make_viewer(token: Token, user_name: str, access: Access, roles: Mapping[int, frozenset[Role]]) -> Viewer:
    """A caller by this token, whose user has this access and these roles."""
    return Viewer(
        token.id,
        token.name,
        token.kind,
        token.user_id,
        user_name,
        access.narrowed(token.permissions, token.owners),
        roles,
        token.permissions,
        token.owners,
        token.expires_ms,
        max(token.created_ms, token.last_used_ms or 0),
    )


class ViewerDirectory:
    """Callers by the id of their token. All methods are for the event loop."""

    def __init__(self, signed_in: Iterable[SignedIn] = ()) -> None:
        self._tokens: dict[str, tuple[str, Viewer]] = {}
        self._of_user: dict[int, tuple[str, ...]] = {}
        self._open: dict[str, set[Callable[[], None]]] = {}
        """What to call for each call that is open for long, by its token."""
        self.announced = 0
        """How many changes there were that this directory has to know of."""
        self._known = 0
        self._caught_up = asyncio.Event()
        for one in signed_in:
            self._replace(one)

    def sign_in(self, authorization: str, now_ms: int) -> Viewer:
        """The caller with this ``authorization`` header. Raises NotSignedIn, which never tells why."""
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise NotSignedIn
        secret = parse_secret(authorization[len(_BEARER) :].strip(), TOKEN_PREFIX)
        found = self._tokens.get(secret.id) if secret is not None else None
        # An unknown id is compared as well, so that the answer takes as long.
        known = found[0] if found is not None else "0" * 64
        offered = secret.hash if secret is not None else "1" * 64
        if not hmac.compare_digest(known, offered) or found is None:
            raise NotSignedIn
        return self._usable(found[1], now_ms)

    def by_certificate(self, name: str, serial: str, now_ms: int) -> Viewer:
        """The machine's user with this certificate. Raises CertificateRevoked where it is not kept, or the user is disabled."""
        found = self._tokens.get(_CERTIFICATE + serial)
        if found is None or found[1].user_name != name:
            raise CertificateRevoked(serial=serial)
        return self._usable(found[1], now_ms)

    def again(self, viewer: Viewer, now_ms: int) -> Viewer:
        """The same caller as of now. Raises what a new call would be told where the token or its user has come to an end."""
        found = self._tokens.get(viewer.token_id)
        if found is None and viewer.token_id.startswith(_CERTIFICATE):
            raise CertificateRevoked(serial=viewer.token_id.removeprefix(_CERTIFICATE))
        if found is None:
            raise NotSignedIn
        return self._usable(found[1], now_ms)

    @contextmanager
    def following(self, viewer: Viewer, end: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call ``end`` once this caller may do other things than ``viewer`` says, or nothing more."""
        waiting = self._open.setdefault(viewer.token_id, set())
        waiting.add(end)
        try:
            found = self._tokens.get(viewer.token_id)
            if found is None or not found[1].may_the_same(viewer):
                end()
            yield
        finally:
            waiting.discard(end)
            if not waiting and self._open.get(viewer.token_id) is waiting:
                del self._open[viewer.token_id]

    def expire(self, now_ms: int) -> None:
        """End what is open by tokens that have come to their end by the wall clock, which may have been set or have stood still."""
        for token_id, waiting in tuple(self._open.items()):
            found = self._tokens.get(token_id)
            if found is not None and found[1].expires_ms is not None and found[1].expires_ms <= now_ms:
                for end in tuple(waiting):
                    end()

    def expect(self) -> None:
        """A change was committed that the directory does not know yet: calls wait for `refresh`."""
        self.announced += 1
        self._caught_up.clear()

    def refresh(self, signed_in: Iterable[SignedIn], announced: int, *, privacy: bool = False) -> None:
        """Take over how these users are now: all changes are known that had been announced by then.

        ``privacy``: who sees a Tenant has changed, so that whoever it may concern has to begin anew.
        """
        for one in signed_in:
            self._replace(one)
        if privacy:
            for token_id, waiting in self._open.items():
                found = self._tokens.get(token_id)
                if found is not None and not found[1].unbounded:
                    for end in tuple(waiting):
                        end()
        self._known = max(self._known, announced)
        if self._known == self.announced:
            self._caught_up.set()

    async def caught_up(self) -> None:
        """Return once every announced change is known. Raises StoreUnavailable when that takes too long."""
        if self._known == self.announced:
            return
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self._caught_up.wait()
        except TimeoutError:
            raise StoreUnavailable(cause="what its callers may do cannot be read") from None

    def _replace(self, signed_in: SignedIn) -> None:
        before = {token_id: self._tokens.pop(token_id)[1] for token_id in self._of_user.pop(signed_in.user_id, ())}
        for known_hash, viewer in signed_in.tokens:
            self._tokens[viewer.token_id] = (known_hash, viewer)
        if signed_in.tokens:
            self._of_user[signed_in.user_id] = tuple(viewer.token_id for _, viewer in signed_in.tokens)
        for token_id, viewer in before.items():
            now = self._tokens.get(token_id)
            if now is None or not now[1].may_the_same(viewer):
                for end in tuple(self._open.get(token_id, ())):
                    end()

    def _usable(self, viewer: Viewer, now_ms: int) -> Viewer:
        if viewer.expires_ms is not None and viewer.expires_ms <= now_ms:
            # Who holds the token may know why it opens nothing any more.
            if viewer.token_id.startswith(_CERTIFICATE):
                raise CertificateExpired(
                    serial=viewer.token_id.removeprefix(_CERTIFICATE),
                    not_after=_moment(viewer.expires_ms),
                    server_time=_moment(now_ms),
                )
            raise SessionEnded(cause="its time is over") if viewer.kind is TokenKind.SESSION else NotSignedIn
        return viewer


def _moment(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).isoformat()
