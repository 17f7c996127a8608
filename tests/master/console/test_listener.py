"""The console's listener as a client sees it that speaks HTTP and is no browser: what is refused, and what every answer carries."""

import asyncio
import base64
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import h2.connection
import httpx2
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from tenantry.master.rpc.callers import BROUGHT_FOR
from tenantry.protocol.failures import SignInRefused, TooManyAttempts
from tenantry.v1 import role_service_pb2, session_service_pb2, tenant_service_pb2, user_service_pb2
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import STUBS, read_records
from tests.servers.people import grant
from tests.servers.scraping import scrape
from tests.servers.signing_in import PASSWORD, new_user
from tests.servers.source_addresses import fresh_address

SIGN_IN = "/tenantry.v1.SessionService/SignIn"
SIGN_OUT = "/tenantry.v1.SessionService/SignOut"
WHO_AM_I = "/tenantry.v1.RoleService/WhoAmI"
WATCH = "/tenantry.v1.TenantService/WatchTenants"
FORGED = "203.0.113.9"


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master with the console's listener."""
    settings = ("console_listen=127.0.0.1:0", "monitoring_listen=127.0.0.1:0")
    with running_master(tmp_path_factory.mktemp("console"), *settings, quick=True) as running:
        yield running


@contextlib.asynccontextmanager
async def client(
    master: MasterProcess, source: str = "127.0.0.1", *, http2: bool = True
) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client at this address, with cookies, that verifies the certificate by the Master's root."""
    tls = ssl.create_default_context(cadata=master.root.decode())
    transport = httpx2.AsyncHTTPTransport(verify=tls, http1=not http2, http2=http2, local_address=source)
    base = f"https://{master.console_address}"
    async with httpx2.AsyncClient(transport=transport, base_url=base, timeout=20) as made:
        yield made


def head(master: MasterProcess, **changed: str | None) -> dict[str, str]:
    """The headers of a call as a page of the console sends it, with changes; None leaves one out."""
    usual = {
        "origin": f"https://{master.console_address}",
        "content-type": "application/proto",
        "connect-protocol-version": "1",
        "sec-fetch-site": "same-origin",
    }
    merged = {**usual, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return {name: value for name, value in merged.items() if value is not None}


async def post(
    console: httpx2.AsyncClient, master: MasterProcess, path: str, message: Message, **changed: str | None
) -> httpx2.Response:
    """One call."""
    return await console.post(path, content=message.SerializeToString(), headers=head(master, **changed))


def reason(error: dict[str, Any]) -> str:
    """The reason in an error of the protocol."""
    value = base64.b64decode(error["details"][0]["value"] + "==")
    return error_details_pb2.ErrorInfo.FromString(value).reason


async def signed_in(console: httpx2.AsyncClient, master: MasterProcess, name: str) -> httpx2.Response:
    """Sign in with the password of all tests."""
    return await post(console, master, SIGN_IN, session_service_pb2.SignInRequest(name=name, password=PASSWORD))


@pytest.mark.parametrize("http2", [True, False])
async def test_every_answer_carries_the_defences(master: MasterProcess, http2: bool) -> None:
    """Pages, files that are missing, calls and refusals alike, by HTTP/2 and by HTTP/1.1."""
    async with client(master, http2=http2) as console:
        answers = [
            await console.get("/"),
            await console.get("/missing.js"),
            await console.get("/console.json"),
            await console.post("/", content=b""),
            await post(console, master, WHO_AM_I, role_service_pb2.WhoAmIRequest()),
            await post(console, master, WHO_AM_I, role_service_pb2.WhoAmIRequest(), origin="https://evil.example"),
        ]
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    assert [answer.status_code for answer in answers][1:] == [404, 200, 405, 401, 403]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


async def test_what_another_site_can_send_is_refused(master: MasterProcess) -> None:
    """With the cookie of a session and all: the session goes on as if nothing had been."""
    name = await new_user(master)
    attempts: list[tuple[dict[str, str | None], int]] = [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": None}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"connect_protocol_version": None}, 400),
    ]
    async with client(master) as console:
        assert (await signed_in(console, master, name)).status_code == 200
        for changed, status in attempts:
            refused = await post(console, master, SIGN_OUT, session_service_pb2.SignOutRequest(), **changed)
            assert (changed, refused.status_code) == (changed, status)
        assert (await post(console, master, WHO_AM_I, role_service_pb2.WhoAmIRequest())).status_code == 200


async def test_the_token_of_a_session_is_in_the_cookie_alone(master: MasterProcess) -> None:
    """The answer of a sign-in holds none; sign-out ends the session and takes the cookie away."""
    name = await new_user(master)
    async with client(master) as console:
        answer = await signed_in(console, master, name)
        session = session_service_pb2.SignInResponse.FromString(answer.content)
        assert (session.name, session.token) == (name, "")
        cookie, _ = answer.headers.get_list("set-cookie")
        token = cookie.partition("=")[2].partition(";")[0]
        assert cookie == f"__Host-tenantry={token}; Path=/; Secure; HttpOnly; SameSite=Strict"
        assert token.encode() not in answer.content
        viewer = await post(console, master, WHO_AM_I, role_service_pb2.WhoAmIRequest())
        assert role_service_pb2.WhoAmIResponse.FromString(viewer.content).user == name
        out = await post(console, master, SIGN_OUT, session_service_pb2.SignOutRequest())
        assert "Max-Age=0" in out.headers["set-cookie"]
        again = await post(
            console, master, WHO_AM_I, role_service_pb2.WhoAmIRequest(), cookie=f"__Host-tenantry={token}"
        )
        assert again.status_code == 401
        assert "Max-Age=0" in again.headers["set-cookie"]


async def test_the_proof_of_a_sign_in_is_in_a_cookie_of_its_own(master: MasterProcess) -> None:
    """No script sees it, signing out leaves it, and with it the browser signs in where somebody has used up all attempts."""
    name = await new_user(master)
    source = fresh_address()
    async with client(master, source) as console, client(master, source) as guesser:
        answer = await signed_in(console, master, name)
        _, cookie = answer.headers.get_list("set-cookie")
        proof = cookie.partition("=")[2].partition(";")[0]
        assert cookie == (f"__Host-tenantry-proof={proof}; Max-Age=15552000; Path=/; Secure; HttpOnly; SameSite=Strict")
        assert proof.startswith("tnp_") and proof.encode() not in answer.content
        out = await post(console, master, SIGN_OUT, session_service_pb2.SignOutRequest())
        assert proof in str(console.cookies) and "proof" not in out.headers["set-cookie"]
        wrong = session_service_pb2.SignInRequest(name=name, password="not the one")
        async with asyncio.TaskGroup() as group:
            guesses = [group.create_task(post(guesser, master, SIGN_IN, wrong)) for _ in range(6)]
            await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
            assert (await signed_in(console, master, name)).status_code == 200
        reasons = sorted(reason(task.result().json()) for task in guesses)
        assert reasons == [SignInRefused.reason] * 5 + [TooManyAttempts.reason], "one waits for a turn, one is refused"


async def test_connections_of_browsers_are_counted_apart(master: MasterProcess) -> None:
    """As many as there are, of HTTP/2 and of HTTP/1.1, whatever they ask for; none of links or of callers of the API."""

    async def counted(expected: int) -> None:
        assert master.monitoring_address is not None
        address = master.monitoring_address

        async def look() -> bool:
            page = await asyncio.to_thread(scrape, address)
            return f"tenantry_master_console_connections_open {expected}.0\n" in page

        await eventually(look, f"{expected} connections of browsers")

    await counted(0)
    async with client(master) as first, client(master, http2=False) as second, client(master) as third:
        for console in (first, second, third, first):
            await console.get("/")
        await counted(3)
    await counted(0)


async def test_only_the_cookie_says_who_calls(master: MasterProcess) -> None:
    """A token in a header counts for nothing here, and of two cookies of the name neither does."""
    async with client(master) as console:
        for changed in (
            {"authorization": f"Bearer {master.token}"},
            {"cookie": f"__Host-tenantry={master.token}; __Host-tenantry=other"},
            {"cookie": f"tenantry={master.token}"},
            {"cookie": "__Host-tenantry=a token"},
        ):
            answer = await post(console, master, WHO_AM_I, role_service_pb2.WhoAmIRequest(), **changed)
            assert reason(answer.json()) == "NOT_SIGNED_IN"


async def test_a_wrong_password_of_a_change_ends_no_session(master: MasterProcess) -> None:
    """UNAUTHENTICATED is also what a wrong code says: only where the session is over, the cookie goes."""
    name = await new_user(master)
    async with client(master) as console:
        await signed_in(console, master, name)
        request = user_service_pb2.SetPasswordRequest(password="another long phrase", old_password="wrong")
        answer = await post(console, master, "/tenantry.v1.UserService/SetPassword", request)
        assert (answer.status_code, reason(answer.json())) == (401, "SIGN_IN_REFUSED")
        assert "set-cookie" not in answer.headers


async def test_a_stream_comes_as_envelopes_and_ends_with_its_failure(master: MasterProcess) -> None:
    """First what is there, then `synchronised`; with no session the only envelope is the end, with the reason."""
    name = await new_user(master)
    await grant(master, name, "GENERAL_ADMINISTRATOR", "main")
    stream = {"content-type": "application/connect+proto"}
    async with client(master) as console:
        refused = await console.post(WATCH, content=bytes(5), headers=head(master) | stream)
        assert (refused.status_code, refused.content[0]) == (200, 2)
        assert b"NOT_SIGNED_IN" not in refused.content
        assert b'"unauthenticated"' in refused.content
        await signed_in(console, master, name)
        async with console.stream("POST", WATCH, content=bytes(5), headers=head(master) | stream) as answer:
            received = b""
            parts = answer.aiter_bytes()
            while len(received) < 5 or len(received) < 5 + struct.unpack(">BI", received[:5])[1]:
                received += await anext(parts)
        flags, length = struct.unpack(">BI", received[:5])
        assert flags == 0
        event = tenant_service_pb2.WatchTenantsResponse.FromString(received[5 : 5 + length])
        assert event.WhichOneof("event") in ("tenant", "synchronised")


async def test_only_services_of_people_are_behind_it(master: MasterProcess) -> None:
    """Enrolment, links, health and reflection are no calls of the console; neither is a method that does not exist."""
    async with client(master) as console:
        for path in (
            "/tenantry.v1.EnrolmentService/Enrol",
            "/tenantry.v1.LinkService/Connect",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/tenantry.v1.TenantService/Missing",
        ):
            answer = await console.post(path, content=b"", headers=head(master))
            assert answer.status_code == 405


async def test_a_request_is_bounded(master: MasterProcess) -> None:
    """A body over 1 MiB is not kept but refused, and the connection goes on."""
    async with client(master) as console:
        answer = await console.post(SIGN_IN, content=bytes(3 << 20), headers=head(master))
        assert answer.status_code == 413
        assert (await console.get("/console.json")).status_code == 200


async def test_the_browser_is_where_the_connection_comes_from(master: MasterProcess) -> None:
    """Audit and limits see the browser's own address, whatever its headers claim."""
    source, name = fresh_address(), await new_user(master)
    forged = {"x_forwarded_for": FORGED, "forwarded": f"for={FORGED}", "x_real_ip": FORGED, BROUGHT_FOR: f"{FORGED}:1"}
    async with client(master, source) as console:
        request = session_service_pb2.SignInRequest(name=name, password="wrong, wrong, wrong")
        answers = await asyncio.gather(*(post(console, master, SIGN_IN, request, **forged) for _ in range(6)))
    assert [reason(answer.json()) for answer in answers].count("TOO_MANY_ATTEMPTS") >= 1
    async with client(master, fresh_address()) as console:
        assert (await signed_in(console, master, name)).status_code == 200
    audit = [str(record) for record in await read_records(master, "auditMessages")]
    assert any(source in record and name in record for record in audit)
    assert [record for record in audit if FORGED in record] == []


async def test_nobody_else_brings_calls_for_others(master: MasterProcess) -> None:
    """The metadata with which the console names a browser means nothing on the `api` listener."""
    name = await new_user(master)
    async with master.api_channel() as channel:
        request = session_service_pb2.SignInRequest(name=name, password="wrong, wrong, wrong")
        with pytest.raises(grpc.aio.AioRpcError):
            await STUBS["SessionService"](channel).SignIn(request, metadata=((BROUGHT_FOR, f"{FORGED}:1"),), timeout=20)
    audit = [str(record) for record in await read_records(master, "auditMessages")]
    assert any(name in record for record in audit)
    assert [record for record in audit if FORGED in record] == []


async def test_strangers_who_break_the_rules_disturb_nobody(master: MasterProcess) -> None:
    """Garbage before and after the handshake, half a request, and streams that are reset as fast as they are opened."""
    assert master.console_address is not None
    host, _, port = master.console_address.rpartition(":")
    tls = ssl.create_default_context(cadata=master.root.decode())
    for data, protocol in (
        (b"GET / HTTP/1.1\r\n\r\n", None),
        (b"\0\xff\r\n\r\n", "http/1.1"),
        (bytes(300), "h2"),
        (resets(500), "h2"),
    ):
        if protocol is not None:
            tls.set_alpn_protocols([protocol])
        reader, writer = await asyncio.open_connection(host, int(port), ssl=None if protocol is None else tls)
        writer.write(data)
        await writer.drain()
        with contextlib.suppress(OSError):
            await asyncio.wait_for(reader.read(1), 20)
        writer.transport.abort()
    async with client(master) as console:
        assert (await console.get("/console.json")).status_code == 200
    assert '"level":"error"' not in master.log


def resets(count: int) -> bytes:
    """A connection of HTTP/2 on which so many streams are opened and reset."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    for _ in range(count):
        stream = connection.get_next_available_stream_id()
        fields = [(":method", "POST"), (":path", SIGN_IN), (":scheme", "https"), (":authority", "x")]
        connection.send_headers(stream, fields)
        connection.reset_stream(stream)
    return connection.data_to_send()
