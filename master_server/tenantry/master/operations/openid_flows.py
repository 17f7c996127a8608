"""Both ways of signing in through an OpenID provider, from the first call to the session."""

import secrets
from dataclasses import dataclass
from typing import Final, Protocol

from tenantry.master.domain.openid import DeviceCode, ExternalIdentity
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.audit_calls import CallLedger, Named
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.openid import (
    SIGN_IN_AGE_MS,
    BegunSignIns,
    CodeSignIn,
    DeviceSignIn,
    admit,
    check_redirect,
)
from tenantry.master.operations.sessions import OpenedSession, SessionTerms, new_token_secret, open_session
from tenantry.master.operations.throttling import AttemptLimit
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure, OpenIdNotOffered
from tenantry.protocol.joining import hash_secret

BEGUN_PER_MINUTE: Final = 20
BEGUN_OF_ALL_PER_MINUTE: Final = 600
_BY_PROVIDER: Final = Named(places=(("method", "openid"),))


class IdentityProvider(Protocol):
    """The provider, as `tenantry.master.openid` reaches it. Times: ``now_ms`` Unix, ``steady_ms`` steady milliseconds."""

    async def authorization_url(
        self, redirect_uri: str, state: str, nonce: str, verifier: str, steady_ms: int
    ) -> str: ...

    async def redeem_code(
        self, code: str, redirect_uri: str, nonce: str, verifier: str, *, now_ms: int, steady_ms: int
    ) -> ExternalIdentity: ...

    async def begin_device(self, steady_ms: int) -> DeviceCode: ...

    async def redeem_device(self, code: str, *, now_ms: int, steady_ms: int) -> ExternalIdentity | None: ...


@dataclass(frozen=True, slots=True)
class BegunCode:
    """What the program needs that opens a browser. ``secret`` is shown only here; times are Unix milliseconds."""

    authorization_url: str
    state: str
    secret: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class BegunDevice:
    """What the program needs whose user has a browser elsewhere."""

    device: DeviceCode
    secret: str
    expires_ms: int


class OpenIdFlows:
    """The Master's side of both flows. Lives on the event loop; a restart forgets what was begun."""

    def __init__(
        self,
        provider: IdentityProvider | None,
        redirects: tuple[str, ...],
        committer: Committer,
        clocks: Clocks,
        terms: SessionTerms,
        calls: CallLedger,
        *,
        provision: bool,
    ) -> None:
        """``provider`` is None where people sign in otherwise; ``redirects`` and ``provision`` are the settings of that name."""
        self._provider = provider
        self._redirects = redirects
        self._committer = committer
        self._clocks = clocks
        self.terms = terms
        self._calls = calls
        self._provision = provision
        self._begun = BegunSignIns()
        self._limit = AttemptLimit(per_minute=BEGUN_PER_MINUTE, all_per_minute=BEGUN_OF_ALL_PER_MINUTE)

    async def begin_code(self, redirect_uri: str, host: str) -> BegunCode:
        """Begin with a browser. Raises OpenIdNotOffered, FieldInvalid, TooManyAttempts, OpenIdProviderUnreachable."""
        provider = self._offered()
        redirect_uri = check_redirect(redirect_uri, self._redirects)
        self._count(host)
        steady_ms, secret, state = self._clocks.steady_ms(), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        url = await provider.authorization_url(redirect_uri, state, nonce, verifier, steady_ms)
        self._begun.begin(CodeSignIn(redirect_uri, state, nonce, verifier, hash_secret(secret), steady_ms), steady_ms)
        return BegunCode(url, state, secret, self._clocks.wall_ms() + SIGN_IN_AGE_MS)

    async def finish_code(self, secret: str, state: str, code: str, actor: Actor, source: str) -> OpenedSession:
        """The session of whoever signed in. Raises OpenIdNotOffered, OpenIdSignInFailed, OpenIdProviderUnreachable."""
        provider, steady_ms = self._offered(), self._clocks.steady_ms()
        try:
            begun = self._begun.take_code(hash_secret(secret), state, steady_ms)
            identity = await provider.redeem_code(
                code,
                begun.redirect_uri,
                begun.nonce,
                begun.verifier,
                now_ms=self._clocks.wall_ms(),
                steady_ms=steady_ms,
            )
            return await self._open(identity, actor, source)
        except Failure as failure:
            await self._refused(failure, actor)
            raise

    async def begin_device(self, host: str) -> BegunDevice:
        """Begin with a browser elsewhere. Raises as `begin_code`, and OpenIdSignInFailed where there is no device flow."""
        provider, steady_ms = self._offered(), self._clocks.steady_ms()
        self._count(host)
        device, secret = await provider.begin_device(steady_ms), secrets.token_urlsafe(32)
        age_ms = min(device.expires_in_s * 1000, SIGN_IN_AGE_MS)
        interval_ms = device.interval_s * 1000
        self._begun.begin(
            DeviceSignIn(
                device.code, hash_secret(secret), steady_ms, steady_ms + age_ms, interval_ms, steady_ms - interval_ms
            ),
            steady_ms,
        )
        return BegunDevice(device, secret, self._clocks.wall_ms() + age_ms)

    async def finish_device(self, secret: str, actor: Actor, source: str) -> OpenedSession | None:
        """The session once the user has approved the code, None before. Raises as `finish_code`."""
        provider, steady_ms, key = self._offered(), self._clocks.steady_ms(), hash_secret(secret)
        try:
            begun = self._begun.ask_device(key, steady_ms)
            if begun is None:
                return None
            identity = await provider.redeem_device(begun.code, now_ms=self._clocks.wall_ms(), steady_ms=steady_ms)
            if identity is None:
                return None
            self._begun.end(key)
            return await self._open(identity, actor, source)
        except Failure as failure:
            await self._refused(failure, actor)
            raise

    def _offered(self) -> IdentityProvider:
        if self._provider is None:
            raise OpenIdNotOffered
        return self._provider

    def _count(self, host: str) -> None:
        """Each beginning counts, whatever comes of it: it costs the provider's time and ours."""
        steady_ms = self._clocks.steady_ms()
        self._limit.check(host, steady_ms)
        self._limit.failed(host, steady_ms)

    async def _open(self, identity: ExternalIdentity, actor: Actor, source: str) -> OpenedSession:
        secret, now_ms = new_token_secret(), self._clocks.wall_ms()

        def work(transaction: Transaction) -> OpenedSession:
            user = admit(transaction, identity, actor.address, now_ms, provision=self._provision)
            signed_in = Actor("user", user.name, actor.address, actor.request_id)
            return open_session(
                transaction, signed_in, user, secret, method="openid", source=source, terms=self.terms, now_ms=now_ms
            )

        return await self._committer.run(work)

    async def _refused(self, failure: Failure, actor: Actor) -> None:
        """Write it down, or count it where strangers have been refused too often."""
        await self._calls.note_refusal(actor, "session.open", _BY_PROVIDER, failure)
