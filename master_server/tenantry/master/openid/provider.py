"""A client of one OpenID provider (OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636 PKCE, RFC 8628 device flow)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from tenantry.master.config import OpenId
from tenantry.master.domain.openid import DeviceCode, ExternalIdentity, identity_of
from tenantry.master.openid.tokens import KeyRing, verify
from tenantry.process.files import read_private
from tenantry.protocol.failures import OpenIdProviderUnreachable, OpenIdSignInFailed

TIMEOUT_S: Final = 10.0
METADATA_AGE_MS: Final = 3_600_000
MAX_BODY_BYTES: Final = 1 << 20
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_WAITING: Final = ("authorization_pending", "slow_down")


class OpenIdProvider:
    """The provider of the settings. One instance serves all sign-ins; to be used on one event loop."""

    def __init__(self, settings: OpenId, secret: str | None) -> None:
        """``secret`` is the client's, None for a public client. Raises ValueError when the settings name no issuer."""
        if settings.issuer is None:
            raise ValueError("the settings name no issuer")
        self.issuer = settings.issuer
        self._settings = settings
        self._secret = secret
        self._metadata: Mapping[str, Any] = {}
        self._metadata_ms: int | None = None
        self._keys = KeyRing()
        self._asking = asyncio.Lock()

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str, steady_ms: int) -> str:
        """Where a browser begins the code flow with PKCE. Raises OpenIdProviderUnreachable."""
        metadata = await self._discover(steady_ms)
        async with self._client(redirect_uri) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=state,
                code_verifier=verifier,
                nonce=nonce,
                **self._asked_acr(),
            )
            return str(url)

    async def redeem_code(
        self, code: str, redirect_uri: str, nonce: str, verifier: str, *, now_ms: int, steady_ms: int
    ) -> ExternalIdentity:
        """Who signed in, for the code that the provider gave the browser.

        Raises OpenIdSignInFailed, OpenIdProviderUnreachable.
        """
        metadata = await self._discover(steady_ms)
        async with self._client(redirect_uri) as client:
            answer = await self._fetch(
                client, metadata, grant_type="authorization_code", code=code, code_verifier=verifier
            )
            return await self._identify(client, metadata, answer, nonce, now_ms, steady_ms)

    async def begin_device(self, steady_ms: int) -> DeviceCode:
        """Begin the device flow. Raises OpenIdSignInFailed where the provider has none, OpenIdProviderUnreachable."""
        metadata = await self._discover(steady_ms)
        endpoint = metadata.get("device_authorization_endpoint")
        if not endpoint:
            raise OpenIdSignInFailed(cause="this provider has no device flow")
        form = {"client_id": self._settings.client_id, "scope": " ".join(self._settings.scopes), **self._asked_acr()}
        # authlib has no call for this endpoint, which authenticates clients as the token endpoint does (RFC 8628, section 3.1).
        auth = None if self._secret is None else (self._settings.client_id, self._secret)
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, auth=auth) as client:
            answer = await _asked(client.post(endpoint, data=form), self.issuer)
        try:
            return DeviceCode(
                str(answer["device_code"]),
                str(answer["user_code"]),
                str(answer["verification_uri"]),
                str(answer.get("verification_uri_complete", "")),
                int(answer["expires_in"]),
                max(1, int(answer.get("interval", 5))),
            )
        except (KeyError, TypeError, ValueError):
            raise OpenIdSignInFailed(cause="the provider's answer to the device flow cannot be read") from None

    async def redeem_device(self, code: str, *, now_ms: int, steady_ms: int) -> ExternalIdentity | None:
        """Who signed in, or None while nobody has yet. Raises OpenIdSignInFailed, OpenIdProviderUnreachable."""
        metadata = await self._discover(steady_ms)
        async with self._client(None) as client:
            answer = await self._fetch(client, metadata, grant_type=_DEVICE_GRANT, device_code=code)
            if answer is None:
                return None
            return await self._identify(client, metadata, answer, None, now_ms, steady_ms)

    def _asked_acr(self) -> dict[str, str]:
        """What the provider is asked for; what it then did stands in the ID token, and that alone is believed."""
        return {"acr_values": " ".join(self._settings.acr)} if self._settings.acr else {}

    @asynccontextmanager
    async def _client(self, redirect_uri: str | None) -> AsyncIterator[Any]:
        # A client keeps the token of its last request: one for each sign-in, never shared.
        client = AsyncOAuth2Client(
            self._settings.client_id,
            self._secret,
            token_endpoint_auth_method="none" if self._secret is None else "client_secret_basic",
            scope=" ".join(self._settings.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=True,
        )
        async with client:
            yield client

    async def _discover(self, steady_ms: int) -> Mapping[str, Any]:
        async with self._asking:
            age_ms = None if self._metadata_ms is None else steady_ms - self._metadata_ms
            if age_ms is None or age_ms > METADATA_AGE_MS:
                self._metadata = await self._read_metadata()
                self._metadata_ms = steady_ms
            return self._metadata

    async def _read_metadata(self) -> Mapping[str, Any]:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            found = await _asked(client.get(f"{self.issuer}/.well-known/openid-configuration"), self.issuer)
        if str(found.get("issuer", "")).removesuffix("/") != self.issuer:
            raise OpenIdSignInFailed(cause="the provider calls itself by another issuer than the settings")
        for endpoint in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not _is_as_safe(found.get(endpoint), self.issuer):
                raise OpenIdSignInFailed(cause=f"the provider's {endpoint} is missing or not https")
        return found

    async def _fetch(self, client: Any, metadata: Mapping[str, Any], **form: str) -> Mapping[str, Any] | None:
        """The token endpoint's answer; None while a device flow waits for its user."""
        try:
            answer = await client.fetch_token(metadata["token_endpoint"], **form)
        except OAuthError as error:
            if error.error in _WAITING:
                return None
            raise OpenIdSignInFailed(cause=f"the provider says {str(error.error)[:60]!r}") from None
        except httpx2.HTTPStatusError as error:
            raise OpenIdProviderUnreachable(issuer=self.issuer, cause=f"status {error.response.status_code}") from None
        except httpx2.HTTPError as error:
            raise OpenIdProviderUnreachable(issuer=self.issuer, cause=type(error).__name__) from None
        except ValueError:
            raise OpenIdSignInFailed(cause="the provider's answer is not JSON") from None
        if not isinstance(answer, Mapping):
            raise OpenIdSignInFailed(cause="the provider's answer is no object")
        return answer

    async def _identify(
        self,
        client: Any,
        metadata: Mapping[str, Any],
        answer: Mapping[str, Any] | None,
        nonce: str | None,
        now_ms: int,
        steady_ms: int,
    ) -> ExternalIdentity:
        token = None if answer is None else answer.get("id_token")
        if not isinstance(token, str):
            raise OpenIdSignInFailed(cause="the provider sent no ID token; the scope `openid` is needed")
        keys = await self._keys_for(token, metadata, steady_ms)
        claims = verify(token, keys, metadata["issuer"], self._settings.client_id, nonce, now_ms, self._settings.acr)
        if self._settings.groups_claim not in claims and _is_as_safe(metadata.get("userinfo_endpoint"), self.issuer):
            more = await _asked(client.get(metadata["userinfo_endpoint"]), self.issuer)
            # Core 1.0, section 5.3.2: an answer about another subject must not be used.
            if more.get("sub") == claims["sub"]:
                claims = {**more, **claims}
        return identity_of(claims, self.issuer, self._settings.groups_claim)

    async def _keys_for(self, token: str, metadata: Mapping[str, Any], steady_ms: int) -> KeyRing:
        if self._keys.should_be_read(token, steady_ms):
            async with httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
                self._keys.replace(await _asked(client.get(metadata["jwks_uri"]), self.issuer), steady_ms)
        return self._keys


def openid_provider(settings: OpenId) -> OpenIdProvider:
    """The provider of settings that name one. Raises FileExposed, OSError for the file of the client's secret, ValueError."""
    file = settings.client_secret_file
    return OpenIdProvider(settings, None if file is None else read_private(file).decode().strip())


async def _asked(request: Any, issuer: str) -> Mapping[str, Any]:
    """The object in the answer to a request. Raises OpenIdProviderUnreachable, OpenIdSignInFailed."""
    try:
        response = await request
    except httpx2.HTTPError as error:
        raise OpenIdProviderUnreachable(issuer=issuer, cause=type(error).__name__) from None
    if response.status_code != httpx2.codes.OK:
        raise OpenIdProviderUnreachable(issuer=issuer, cause=f"status {response.status_code}")
    if len(response.content) > MAX_BODY_BYTES:
        raise OpenIdSignInFailed(cause="the provider's answer is too long")
    try:
        found = response.json()
    except ValueError:
        raise OpenIdSignInFailed(cause="the provider's answer is not JSON") from None
    if not isinstance(found, Mapping):
        raise OpenIdSignInFailed(cause="the provider's answer is no object")
    return found


def _is_as_safe(url: object, issuer: str) -> bool:
    """Whether an endpoint is reached over https, or over plain http as the issuer itself."""
    return isinstance(url, str) and (url.startswith("https://") or issuer.startswith("http://"))
