"""Signing in through an OpenID provider: what was begun and not yet ended, and the user that comes of it."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from tenantry.master.domain.openid import ExternalIdentity
from tenantry.master.domain.people import User, user_name_from
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.journal import audit
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, OpenIdSignInFailed, TooManyAttempts

SIGN_IN_AGE_MS: Final = 10 * 60_000
MAX_BEGUN: Final = 1_000
MAX_REDIRECT: Final = 2_000
_LOOPBACK: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CodeSignIn:
    """A code flow under way. ``secret_hash`` is of the secret that only the program that began it knows."""

    redirect_uri: str
    state: str
    nonce: str
    verifier: str
    secret_hash: str
    begun_ms: int


@dataclass(frozen=True, slots=True)
class DeviceSignIn:
    """A device flow under way: the provider's code stays here, the program polls with its secret."""

    code: str
    secret_hash: str
    begun_ms: int
    ends_ms: int
    interval_ms: int
    asked_ms: int


class BegunSignIns:
    """Sign-ins that wait for their end, bounded in number and age; times are steady. A restart of the Master forgets them."""

    def __init__(self) -> None:
        self._begun: OrderedDict[str, CodeSignIn | DeviceSignIn] = OrderedDict()

    def begin(self, sign_in: CodeSignIn | DeviceSignIn, now_ms: int) -> None:
        """Keep one. Raises TooManyAttempts when too many wait."""
        for key, known in list(self._begun.items()):
            if now_ms - known.begun_ms <= SIGN_IN_AGE_MS:
                break
            del self._begun[key]
        if len(self._begun) >= MAX_BEGUN:
            raise TooManyAttempts(retry_after_s=60)
        self._begun[sign_in.secret_hash] = sign_in

    def take_code(self, secret_hash: str, state: str, now_ms: int) -> CodeSignIn:
        """The code flow with this secret and state; it ends with that. Raises OpenIdSignInFailed."""
        found = self._begun.pop(secret_hash, None)
        if not isinstance(found, CodeSignIn) or now_ms - found.begun_ms > SIGN_IN_AGE_MS:
            raise OpenIdSignInFailed(cause="this sign-in is not known here, or was begun too long ago")
        if found.state != state:
            raise OpenIdSignInFailed(cause="the browser came back from another sign-in (state)")
        return found

    def ask_device(self, secret_hash: str, now_ms: int) -> DeviceSignIn | None:
        """The device flow with this secret, when it is time to ask the provider again. Raises OpenIdSignInFailed."""
        found = self._begun.get(secret_hash)
        if not isinstance(found, DeviceSignIn) or now_ms > found.ends_ms:
            self._begun.pop(secret_hash, None)
            raise OpenIdSignInFailed(cause="this sign-in is not known here, or its code has expired")
        if now_ms - found.asked_ms < found.interval_ms:
            return None
        self._begun[secret_hash] = replace(found, asked_ms=now_ms)
        return found

    def end(self, secret_hash: str) -> None:
        """Forget a sign-in."""
        self._begun.pop(secret_hash, None)


def check_redirect(redirect_uri: str, allowed: Iterable[str]) -> str:
    """The address a browser may be sent back to: one of the settings, or a port of the user's own machine (RFC 8252).

    Raises FieldInvalid.
    """
    if redirect_uri in tuple(allowed):
        return redirect_uri
    expected = "http://127.0.0.1:PORT/PATH, or one of the Master's setting `openid.redirects`"
    if len(redirect_uri) > MAX_REDIRECT or not _is_at_home(redirect_uri):
        raise FieldInvalid(field="redirect_uri", problem="is not an address to come back to", expected=expected)
    return redirect_uri


def _is_at_home(address: str) -> bool:
    try:
        parts = urlsplit(address)
        has_port = parts.port is not None
    except ValueError:
        return False
    extras = parts.query or parts.fragment or parts.username
    return parts.scheme == "http" and parts.hostname in _LOOPBACK and has_port and not extras


def admit(transaction: Transaction, identity: ExternalIdentity, address: str, now_ms: int, *, provision: bool) -> User:
    """The user of this identity, made at the first sign-in, with the groups that the provider names now.

    Raises OpenIdSignInFailed for a disabled user, and for one who is not known where only known ones may sign in.
    """
    user = transaction.users.by_subject(identity.issuer, identity.subject)
    if user is None:
        if not provision:
            raise OpenIdSignInFailed(cause=f"{identity.name!r} is no user of this Master")
        user = _provision(transaction, identity, address, now_ms)
    if user.disabled_ms is not None:
        raise OpenIdSignInFailed(cause=f"the user {user.name!r} is disabled")
    current = replace(
        user, display_name=identity.display_name, email=identity.email or user.email, last_sign_in_ms=now_ms
    )
    user = transaction.users.save(current) or user
    _follow_groups(transaction, user, identity, address, now_ms)
    return user


def _provision(transaction: Transaction, identity: ExternalIdentity, address: str, now_ms: int) -> User:
    name = _free_name(transaction, identity)
    made = User(
        0,
        name,
        identity.display_name,
        identity.email,
        now_ms,
        issuer=identity.issuer,
        subject=identity.subject,
    )
    user = transaction.users.insert(made)
    actor = Actor("user", name, address)
    transaction.records.append([audit(actor, "user.provision", now_ms, issuer=identity.issuer, name=name)])
    return user


def _free_name(transaction: Transaction, identity: ExternalIdentity) -> str:
    """A name that nobody has. A name that a local user has is never taken over: only issuer and subject say who is who."""
    wanted = user_name_from(identity.name)
    if transaction.users.by_name(wanted) is None:
        return wanted
    host = user_name_from(urlsplit(identity.issuer).hostname or "openid")
    for number in range(1, 1_000):
        name = f"{wanted}@{host}" if number == 1 else f"{wanted}@{host}-{number}"
        if transaction.users.by_name(name) is None:
            return name
    raise OpenIdSignInFailed(cause=f"too many users are called {wanted!r}")


def _follow_groups(transaction: Transaction, user: User, identity: ExternalIdentity, address: str, now_ms: int) -> None:
    """Put the user into the groups that stand for the provider's, and out of those that it no longer names."""
    # A group without an external name is nobody's but ours, also for a provider that names one with an empty name.
    named = {
        group.id: group.name
        for group in transaction.groups.all()
        if group.external and group.external in identity.groups
    }
    held = transaction.groups.of_user(user.id)
    joined = sorted(named.keys() - held.keys())
    left = sorted(group_id for group_id, external in held.items() if external and group_id not in named)
    for group_id in joined:
        transaction.groups.add(group_id, user.id, external=True)
    for group_id in left:
        transaction.groups.remove(group_id, user.id)
    if joined or left:
        facts = audit(
            Actor("system", "openid", address),
            "group.follow",
            now_ms,
            user=user.name,
            joined=", ".join(named[group_id] for group_id in joined),
            left=len(left),
        )
        transaction.records.append([facts])
