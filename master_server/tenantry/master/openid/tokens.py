"""ID tokens: whose keys sign them, and what has to be true of them (OpenID Connect Core 1.0, section 3.1.3.7)."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact

from tenantry.protocol.failures import OpenIdSignInFailed

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""Signatures by the provider's key pair alone: with a shared secret every holder could write tokens."""
LEEWAY_S: Final = 60
MAX_TOKEN_AGE_S: Final = 600
REREAD_MS: Final = 60_000


class KeyRing:
    """The provider's public keys, read again when a token names one that is not there, at most once a minute."""

    def __init__(self) -> None:
        self._keys = KeySet([])
        self._ids: frozenset[str] = frozenset()
        self._read_ms: int | None = None

    @property
    def keys(self) -> KeySet:
        """The keys as they were read last."""
        return self._keys

    def should_be_read(self, token: str, steady_ms: int) -> bool:
        """Whether the provider has to be asked for its keys before this token can be judged."""
        if self._read_ms is None:
            return True
        return _key_id(token) not in self._ids and steady_ms - self._read_ms > REREAD_MS

    def replace(self, document: Mapping[str, Any], steady_ms: int) -> None:
        """Take the keys of a JWKS document (RFC 7517). Raises OpenIdSignInFailed."""
        listed = document.get("keys")
        if not isinstance(listed, list):
            raise OpenIdSignInFailed(cause="the provider's keys cannot be read")
        signing = [key for key in listed if isinstance(key, dict) and key.get("use", "sig") == "sig"]
        try:
            self._keys = KeySet.import_key_set({"keys": signing})
        except (JoseError, ValueError, TypeError, KeyError):
            raise OpenIdSignInFailed(cause="the provider's keys cannot be read") from None
        self._ids = frozenset(str(key.get("kid", "")) for key in signing)
        self._read_ms = steady_ms


def verify(
    token: str,
    ring: KeyRing,
    issuer: str,
    client_id: str,
    nonce: str | None,
    now_ms: int,
    acr: Collection[str] = (),
) -> Mapping[str, Any]:
    """The claims of an ID token that this provider made for us, now, for this sign-in, in one of the ways ``acr`` if any is named.

    Raises OpenIdSignInFailed.
    """
    now_s = now_ms // 1000
    try:
        claims = jwt.decode(token, ring.keys, algorithms=ALGORITHMS).claims
        registry = jwt.JWTClaimsRegistry(
            now=now_s,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        registry.validate(claims)
    except (JoseError, ValueError) as error:
        raise OpenIdSignInFailed(cause=f"its ID token is not valid ({getattr(error, 'error', 'unreadable')})") from None
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
        raise OpenIdSignInFailed(cause="its ID token is for others as well, and not presented for us (azp)")
    if nonce is not None and claims.get("nonce") != nonce:
        raise OpenIdSignInFailed(cause="its ID token belongs to another sign-in (nonce)")
    if acr and claims.get("acr") not in acr:
        raise OpenIdSignInFailed(cause="the provider's way of signing in is not one that this Master takes (acr)")
    if now_s - int(claims["iat"]) > MAX_TOKEN_AGE_S:
        raise OpenIdSignInFailed(cause="its ID token is old")
    return claims


def _key_id(token: str) -> str:
    try:
        return str(extract_compact(token.encode()).headers().get("kid", ""))
    except (JoseError, ValueError, json.JSONDecodeError):
        return ""
