"""ID tokens that are signed as they should be, and what they must say besides about how their user signed in."""

from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tenantry.master.openid.tokens import KeyRing, verify
from tenantry.protocol.failures import OpenIdSignInFailed

NOW_S = 1_700_000_000
ISSUER, CLIENT = "https://id.example.org", "tenantry"
STRONG, WEAK = "urn:example:two-factors", "urn:example:password"
KEY = ECKey.generate_key("P-256", {"kid": "k", "use": "sig"}, private=True)


def ring() -> KeyRing:
    """The provider's keys."""
    keys = KeyRing()
    keys.replace({"keys": [KEY.as_dict(private=False)]}, 0)
    return keys


def token(**claims: Any) -> str:
    """An ID token of the provider."""
    told = {"iss": ISSUER, "aud": CLIENT, "sub": "ada", "iat": NOW_S, "exp": NOW_S + 60, "nonce": "n", **claims}
    return jwt.encode({"alg": "ES256", "kid": "k"}, told, KEY)


@pytest.mark.parametrize("said", [{"acr": STRONG}, {"acr": "urn:example:hardware"}])
def test_a_way_of_signing_in_that_is_strong_enough_is_taken(said: dict[str, str]) -> None:
    """One of those that the settings name."""
    wanted = (STRONG, "urn:example:hardware")
    assert verify(token(**said), ring(), ISSUER, CLIENT, "n", NOW_S * 1000, wanted)["sub"] == "ada"


@pytest.mark.parametrize("said", [{}, {"acr": WEAK}, {"acr": ""}, {"acr": None}, {"acr": f"{STRONG} {WEAK}"}])
def test_another_way_or_none_that_is_told_is_refused(said: dict[str, Any]) -> None:
    """What the provider does not say it has not done; and whoever asks for nothing takes what comes."""
    with pytest.raises(OpenIdSignInFailed, match="acr"):
        verify(token(**said), ring(), ISSUER, CLIENT, "n", NOW_S * 1000, (STRONG,))
    assert verify(token(**said), ring(), ISSUER, CLIENT, "n", NOW_S * 1000)["sub"] == "ada"
