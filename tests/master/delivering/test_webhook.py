"""Webhooks, against a server that fails, hangs, redirects, and says more than anybody wants to hear."""

import hashlib
import hmac
import json
import resource
import ssl
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.delivering.templates import RenderFailed
from tenantry.master.domain.receivers import PASSWORD, PATH_SECRET, SIGNING_KEY, TOKEN, WebhookSettings
from tests.cli.certificates import make_identity
from tests.master.delivering.outgoings import KEY, NOW_MS, outgoing, sender
from tests.servers.receiving import HookServer, running_hook


async def test_a_request_arrives() -> None:
    """As JSON with everything, its key, and headers whose values are templates."""
    with running_hook() as hook:
        made = WebhookSettings(hook.url + "?a=b", headers=(("X-Level", "{{ level }} {{ tenant.name }}"),))
        attempt = await sender().send(outgoing(made))
    assert (attempt.taken, attempt.detail) == (True, "taken: HTTP 200")
    (request,) = hook.requests
    assert (request.method, request.path) == ("POST", "/hook?a=b")
    assert request.headers["idempotency-key"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-level"] == "critical M?ller & S?hne"
    assert request.json["tenant"]["name"] == "Müller & Söhne"
    assert request.json["fields"]["labels"] == {"cpu": "0"}


async def test_secrets_go_where_they_belong() -> None:
    """Basic and bearer authentication, a secret path, a secret header, and a signature that can be checked."""
    secrets = {TOKEN: "tkn", SIGNING_KEY: "key", PATH_SECRET: "/services/T0/secret?x=1", "header:X-Api-Key": "abc"}
    with running_hook() as hook:
        await sender().send(outgoing(WebhookSettings(hook.url), secrets))
        await sender().send(outgoing(WebhookSettings(hook.url, "PUT", user="me"), {PASSWORD: "p:w"}))
    first, second = hook.requests
    assert (first.path, first.headers["authorization"], first.headers["x-api-key"]) == (
        "/services/T0/secret?x=1",
        "Bearer tkn",
        "abc",
    )
    seconds, _, digest = first.headers["tenantry-signature"].partition(",v1=")
    assert seconds == f"t={NOW_MS // 1000}"
    signed = f"{NOW_MS // 1000}.".encode() + first.body
    assert digest == hmac.new(b"key", signed, hashlib.sha256).hexdigest()
    assert (second.method, second.headers["authorization"]) == ("PUT", "Basic bWU6cDp3")


@pytest.mark.parametrize(
    ("answer", "permanent", "wish_ms", "words"),
    [
        (500, False, 0, "HTTP 500"),
        (404, False, 0, "HTTP 404"),
        (401, False, 0, "HTTP 401"),
        (422, True, 0, "HTTP 422"),
        ((503, "Retry-After", "7"), False, 7_000, "HTTP 503"),
        ((429, "Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"), False, 0, "HTTP 429"),
        ("redirect", False, 0, "no redirect is followed"),
        ("silence", False, 0, "does not speak HTTP, or hung up"),
        ("garbage", False, 0, "does not speak HTTP"),
        ("endless head", False, 0, "does not"),
        ("hang", False, 0, "no answer within"),
    ],
)
async def test_a_server_that_does_not_take_it(answer: Any, permanent: bool, wish_ms: int, words: str) -> None:
    """Each in words, given up only where the same request would be refused again; and there is one request each."""
    with running_hook(lambda _request: answer) as hook:
        attempt = await sender(patience_s=1.0).send(outgoing(WebhookSettings(hook.url)))
    assert (attempt.taken, attempt.permanent, attempt.wish_ms) == (False, permanent, wish_ms)
    assert words in attempt.detail
    assert [request.path for request in hook.requests] == ["/hook"]


async def test_an_endless_body_is_not_read() -> None:
    """The head is enough: it is taken, and nothing of the flood stays in memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with running_hook(lambda _request: "endless") as hook:
        attempt = await sender().send(outgoing(WebhookSettings(hook.url)))
    assert attempt.taken
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10, "kibibytes"


async def test_nothing_of_what_is_told_becomes_a_header() -> None:
    """Line ends in what a header's value is made of do not end it."""
    evil = "x\r\nX-Admin: yes\r\n\r\nGET / HTTP/1.1"
    with running_hook() as hook:
        made = WebhookSettings(hook.url, headers=(("X-What", "{{ message }}"),))
        attempt = await sender().send(outgoing(made, message=evil))
    assert attempt.taken
    (request,) = hook.requests
    assert "x-admin" not in request.headers
    assert request.headers["x-what"] == "x X-Admin: yes GET / HTTP/1.1"


async def test_a_payload_that_is_no_json_is_not_sent() -> None:
    """Where the receiver says that it is JSON; as text it may be anything."""
    with pytest.raises(RenderFailed, match="JSON"):
        outgoing(WebhookSettings("https://example.org/", payload='{"text": "{{ message }}'))
    quoted = outgoing(WebhookSettings("https://example.org/", payload='{"text": {{ message|tojson }}}'), message='"\n')
    assert json.loads(quoted.texts["payload"]) == {"text": '"\n'}
    plain = outgoing(WebhookSettings("https://example.org/", payload="{{ message }}", content_type="text/plain"))
    assert plain.texts["payload"] == "system.cpu.utilization is 0.97"


async def test_tls_is_checked(tmp_path: Path) -> None:
    """The certificate must be of the receiver's authorities and for its name."""
    identity = make_identity(("localhost",))
    (tmp_path / "chain").write_bytes(identity.chain)
    (tmp_path / "key").write_bytes(identity.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")

    def url(hook: HookServer, host: str) -> str:
        return f"https://{host}:{hook.port}/hook"

    with running_hook(tls=context) as hook:
        right = await sender().send(outgoing(WebhookSettings(url(hook, "localhost"), authorities=identity.root)))
        strange = await sender().send(outgoing(WebhookSettings(url(hook, "localhost"))))
        misnamed = await sender().send(outgoing(WebhookSettings(url(hook, "127.0.0.1"), authorities=identity.root)))
    assert right.taken, right.detail
    assert len(hook.requests) == 1
    assert "certificate is not accepted" in strange.detail
    assert "certificate is not accepted" in misnamed.detail
