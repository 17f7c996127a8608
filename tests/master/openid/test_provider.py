"""The client of an OpenID provider, against a real one: both flows, and what a provider must not be believed."""

import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tenantry.master.config import OpenId
from tenantry.master.openid.provider import OpenIdProvider
from tenantry.protocol.failures import OpenIdProviderUnreachable, OpenIdSignInFailed
from tests.servers.node import find_node
from tests.servers.openid_provider import OpenIdServer, running_openid_server

VERIFIER = "a-code-verifier-of-forty-three-characters-or-more"
REDIRECT = "http://127.0.0.1:7777/callback"
SCOPES = ("openid", "profile", "email", "groups")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdServer]:
    """A provider where ada is an operator and bob is nothing."""
    node = find_node()
    assert node is not None, "the environment has no Node"
    with running_openid_server(node, tmp_path_factory.mktemp("openid"), {"ada": ["operators", "staff"]}) as running:
        yield running


def client_of(server: OpenIdServer, issuer: str | None = None) -> OpenIdProvider:
    """A public client of this provider."""
    return OpenIdProvider(OpenId(issuer=issuer or server.issuer, scopes=SCOPES), None)


def now_ms() -> int:
    """This moment."""
    return time.time_ns() // 1_000_000


async def code_of(provider: OpenIdProvider, server: OpenIdServer, account: str, state: str = "state") -> str:
    """A code for an account, as the browser brings it back."""
    url = await provider.authorization_url(REDIRECT, state, "nonce", VERIFIER, 0)
    assert parse_qs(urlsplit(url).query)["code_challenge_method"] == ["S256"]
    back = parse_qs(urlsplit(server.sign_in(url, account)).query)
    assert back["state"] == [state]
    return back["code"][0]


async def test_the_code_flow_tells_who_signed_in(server: OpenIdServer) -> None:
    """Issuer, subject, name, mail and groups, whether they stand in the ID token or are to be asked for."""
    provider = client_of(server)
    code = await code_of(provider, server, "ada")
    found = await provider.redeem_code(code, REDIRECT, "nonce", VERIFIER, now_ms=now_ms(), steady_ms=0)
    assert (found.issuer, found.subject, found.name) == (server.issuer, "ada", "ada")
    assert found.display_name == "ada of the provider"
    assert found.email == "ada@example.org"
    assert found.groups == {"operators", "staff"}


async def test_a_client_with_a_secret_shows_it(server: OpenIdServer) -> None:
    """A confidential client signs in with its secret, and not with another."""
    settings = OpenId(issuer=server.issuer, scopes=SCOPES, client_id="tenantry-secret")
    right = OpenIdProvider(settings, "a secret of at least thirty-two characters")
    code = await code_of(right, server, "bob")
    found = await right.redeem_code(code, REDIRECT, "nonce", VERIFIER, now_ms=now_ms(), steady_ms=0)
    assert found.groups == frozenset()
    wrong = OpenIdProvider(settings, "another secret of thirty-two characters..")
    code = await code_of(wrong, server, "bob")
    with pytest.raises(OpenIdSignInFailed, match="invalid_client"):
        await wrong.redeem_code(code, REDIRECT, "nonce", VERIFIER, now_ms=now_ms(), steady_ms=0)


@pytest.mark.parametrize(
    ("nonce", "verifier", "late_s", "cause"),
    [
        ("another", VERIFIER, 0, "nonce"),
        ("nonce", f"{VERIFIER}x", 0, "invalid_grant"),
        ("nonce", VERIFIER, 7_200, "expired_token"),
        ("nonce", VERIFIER, -7_200, "invalid_token|not valid"),
    ],
    ids=["nonce", "verifier", "expired", "from the future"],
)
async def test_what_belongs_to_another_sign_in_or_time_is_refused(
    server: OpenIdServer, nonce: str, verifier: str, late_s: int, cause: str
) -> None:
    """A nonce, a PKCE verifier or a time that does not fit signs nobody in."""
    provider = client_of(server)
    code = await code_of(provider, server, "ada")
    with pytest.raises(OpenIdSignInFailed, match=cause):
        await provider.redeem_code(code, REDIRECT, nonce, verifier, now_ms=now_ms() + late_s * 1000, steady_ms=0)


async def test_a_code_counts_once(server: OpenIdServer) -> None:
    """The second use of a code is refused."""
    provider = client_of(server)
    code = await code_of(provider, server, "ada")
    await provider.redeem_code(code, REDIRECT, "nonce", VERIFIER, now_ms=now_ms(), steady_ms=0)
    with pytest.raises(OpenIdSignInFailed, match="invalid_grant"):
        await provider.redeem_code(code, REDIRECT, "nonce", VERIFIER, now_ms=now_ms(), steady_ms=0)


async def test_the_device_flow_waits_for_its_user(server: OpenIdServer) -> None:
    """Nobody before the code was typed and approved; then the one who approved it."""
    provider = client_of(server)
    device = await provider.begin_device(0)
    assert device.user_code in device.complete_uri
    assert await provider.redeem_device(device.code, now_ms=now_ms(), steady_ms=0) is None
    server.approve_device(device.complete_uri, "ada")
    found = await provider.redeem_device(device.code, now_ms=now_ms(), steady_ms=0)
    assert found is not None
    assert found.subject == "ada"
    assert found.groups == {"operators", "staff"}


async def test_a_strength_that_the_provider_does_not_tell_is_refused(server: OpenIdServer) -> None:
    """It is asked for, and what comes back without it signs nobody in."""
    settings = OpenId(issuer=server.issuer, scopes=SCOPES, acr=("urn:example:two-factors",))
    provider = OpenIdProvider(settings, None)
    url = await provider.authorization_url(REDIRECT, "state", "nonce", VERIFIER, 0)
    assert parse_qs(urlsplit(url).query)["acr_values"] == ["urn:example:two-factors"]
    code = await code_of(provider, server, "ada")
    with pytest.raises(OpenIdSignInFailed, match="acr"):
        await provider.redeem_code(code, REDIRECT, "nonce", VERIFIER, now_ms=now_ms(), steady_ms=0)
    device = await provider.begin_device(0)
    server.approve_device(device.complete_uri, "ada")
    with pytest.raises(OpenIdSignInFailed, match="acr"):
        await provider.redeem_device(device.code, now_ms=now_ms(), steady_ms=0)


async def test_a_provider_under_another_name_is_not_believed(server: OpenIdServer) -> None:
    """The document has to name the issuer of the settings."""
    provider = client_of(server, issuer=server.issuer.replace("127.0.0.1", "localhost"))
    with pytest.raises(OpenIdSignInFailed, match="another issuer"):
        await provider.authorization_url(REDIRECT, "state", "nonce", VERIFIER, 0)


async def test_a_provider_that_is_away_is_named() -> None:
    """The failure says that it does not answer."""
    provider = OpenIdProvider(OpenId(issuer="http://127.0.0.1:9"), None)
    with pytest.raises(OpenIdProviderUnreachable, match="ConnectError"):
        await provider.begin_device(0)
