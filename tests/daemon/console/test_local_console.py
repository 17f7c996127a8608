"""The local console's listener, with real connections: who is let in, what keeps others out, what bounds it."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tenantry.daemon.config import ListenAddress
from tenantry.daemon.console import connections
from tenantry.daemon.console.access import MOST_SESSIONS, MOST_TICKETS, SESSION_S, TICKET_S, Access
from tenantry.daemon.console.connections import MOST_CONNECTIONS
from tenantry.daemon.console.console import LocalConsole
from tenantry.daemon.domain.failures import ConsoleNotServed, SpoolUnavailable, TunnelNotHeld
from tests.servers.deadlines import PATIENCE_S

FACTS: dict[str, Any] = {"heron": "</script><b>"}


async def tell() -> Mapping[str, Any]:
    """What there is to show."""
    return FACTS


def console() -> LocalConsole:
    """One on a free port."""
    return LocalConsole(ListenAddress("127.0.0.1", 0), tell)


async def connected(served: LocalConsole) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to it."""
    host, _, port = str(served.describe()["address"]).rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def ask(served: LocalConsole, text: str, **headers: str) -> tuple[int, str]:
    """Send a request line with headers; the status and all of the answer. Underscores in names of headers are dashes."""
    headers = {"host": "127.0.0.1", "connection": "close", **headers}
    lines = [f"{text} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return await send(served, ("\r\n".join(lines) + "\r\n\r\n").encode())


async def send(served: LocalConsole, data: bytes) -> tuple[int, str]:
    """Send these bytes; the status and all of the answer."""
    reader, writer = await connected(served)
    async with asyncio.timeout(PATIENCE_S):
        writer.write(data)
        answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer


async def has_ended(reader: asyncio.StreamReader) -> bool:
    """Whether the console ends the connection without a word."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def session_of(served: LocalConsole) -> str:
    """A session, by a link."""
    ticket = str((await served.make_link({}))["link"]).partition("#ticket=")[2]
    status, answer = await ask(served, "POST /session", authorization=f"Ticket {ticket}")
    assert status == 200
    return str(json.loads(answer.partition("\r\n\r\n")[2])["session"])


async def test_a_link_becomes_a_session_that_sees() -> None:
    """Through a tunnel too, where the port is another one."""
    async with (served := console()).served():
        bearer = f"Bearer {await session_of(served)}"
        for host in ("127.0.0.1:9", "localhost:9000", "LOCALHOST", "[::1]:80", "[::1]", "127.0.0.2"):
            status, answer = await ask(served, "GET /status.json", host=host, authorization=bearer)
            assert (status, json.loads(answer.partition("\r\n\r\n")[2])) == (200, FACTS)
        status, answer = await ask(served, "HEAD /status.json", authorization=bearer)
        assert status == 200 and answer.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7450", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "::1", ""],
)
async def test_a_name_that_was_bound_to_loopback_is_not_answered(host: str) -> None:
    """DNS rebinding: the browser takes it for its own site, and its ``Host`` gives it away."""
    async with (served := console()).served():
        bearer = f"Bearer {await session_of(served)}"
        for path in ("/", "/status.json"):
            status, answer = await ask(served, f"GET {path}", host=host, authorization=bearer)
            assert status in (400, 421) and "heron" not in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:7450"},
        {"origin": "https://127.0.0.1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
async def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    """Those on other ports of the same host too, whatever they know."""
    async with (served := console()).served():
        bearer = f"Bearer {await session_of(served)}"
        for request in ("GET /", "GET /status.json", "POST /session", "OPTIONS /status.json"):
            status, answer = await ask(served, request, authorization=bearer, **headers)
            assert status == 403 and "access-control" not in answer


async def test_its_own_page_is_not_another_site() -> None:
    """What a browser sends with the page's own calls."""
    async with (served := console()).served():
        headers = {"host": "127.0.0.1:9", "origin": "http://127.0.0.1:9", "sec_fetch_site": "same-origin"}
        bearer = f"Bearer {await session_of(served)}"
        assert (await ask(served, "GET /status.json", authorization=bearer, **headers))[0] == 200


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /", 200),
        ("GET /console.js", 200),
        ("GET /console.css", 200),
        ("GET /icon.svg", 200),
        ("HEAD /", 200),
        ("GET /?<script>", 200),
        ("GET /status.json", 401),
        ("POST /session", 401),
        ("GET /session", 405),
        ("DELETE /", 405),
        ("GET /<script>", 404),
        ("GET /../access.py", 404),
        ("GET /pages/", 404),
        ("GET //console.js", 404),
    ],
)
async def test_every_answer_carries_the_defences_and_nothing_of_the_request(request_line: str, status: int) -> None:
    """A strict policy, no sniffing, no frames, nothing kept; the page itself says nothing about the machine."""
    async with (served := console()).served():
        got, answer = await ask(served, request_line)
        head = answer.partition("\r\n\r\n")[0].lower()
        assert got == status
        for header in (
            "default-src 'none'; script-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
        ):
            assert header in head
        assert "set-cookie" not in head and "<script>" not in answer and "heron" not in answer.partition("\r\n\r\n")[2]


async def test_the_page_has_no_inline_code() -> None:
    """Otherwise its own policy would stop it."""
    async with (served := console()).served():
        _, page = await ask(served, "GET /")
        assert "<script src=" in page and page.count("<script") == 1
        assert not re.search(r"\s(style|on\w+)=|javascript:|<style", page)
        _, code = await ask(served, "GET /console.js")
        assert "innerHTML" not in code and "insertAdjacentHTML" not in code and "eval(" not in code


async def test_what_is_no_request_ends_the_connection() -> None:
    """Garbage, too many headers, content, and two hosts; the next one is answered."""
    async with (served := console()).served():
        start = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
        for data, expected in (
            (b"\x16\x03\x01\r\n\r\n", 400),
            (start + b"host: localhost\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (start + b"x: " + b"x" * 17_000, 431),
            (start + b"content-length: 3\r\n\r\nabc", 413),
            (b"HEAD / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc", 413),
        ):
            assert (await send(served, data))[0] == expected
        assert (await ask(served, "GET /"))[0] == 200


async def test_a_connection_is_used_again() -> None:
    """The page asks every two seconds; through a tunnel a new connection each time would cost more than the answer."""
    async with (served := console()).served():
        reader, writer = await connected(served)
        for _ in range(3):
            writer.write(b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_who_is_slow_or_takes_all_connections_shuts_out_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has to come in time; beyond the most connections the oldest gives way."""
    async with (served := console()).served():
        held = [await connected(served) for _ in range(MOST_CONNECTIONS)]
        for _, writer in held:
            writer.write(b"GET / HTTP/1.1\r\nhost: ")
        assert (await ask(served, "GET /"))[0] == 200
        assert await has_ended(held[0][0])
        monkeypatch.setattr(connections, "REQUEST_S", 0.05)
        reader, writer = await connected(served)
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await has_ended(reader)
        for _, one in (*held, (reader, writer)):
            one.close()


async def test_what_cannot_be_told_is_said() -> None:
    """Where the spool cannot be read, the page keeps what it has and says that it is old."""

    async def fail() -> Mapping[str, Any]:
        raise SpoolUnavailable(cause="the disk is gone")

    async with (served := LocalConsole(ListenAddress("127.0.0.1", 0), fail)).served():
        bearer = f"Bearer {await session_of(served)}"
        status, answer = await ask(served, "GET /status.json", authorization=bearer)
        assert status == 503 and "the disk is gone" in answer


async def test_a_disk_that_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it is let go after a while, one at a time asks for it, and the page is still there."""
    monkeypatch.setattr(connections, "ANSWER_S", 0.2)
    inside = most = 0

    async def hang() -> Mapping[str, Any]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            inside -= 1
        return FACTS

    async with (served := LocalConsole(ListenAddress("127.0.0.1", 0), hang)).served():
        bearer = await session_of(served)
        head = f"GET /status.json HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n\r\n".encode()
        waiting = [await connected(served) for _ in range(3)]
        for _, writer in waiting:
            writer.write(head)
        assert (await ask(served, "GET /"))[0] == 200
        assert all([await has_ended(reader) for reader, _ in waiting])
        assert most == 1
        for _, writer in waiting:
            writer.close()


class Desk:
    """Tunnels, as the console has them."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []

    def describe(self, only: str | None = None) -> dict[str, Any]:
        """What there is to see."""
        return {"seen": only}

    def close(self, tunnel: str, who: str) -> str:
        """Note it."""
        if tunnel != MINE:
            raise TunnelNotHeld(tunnel=tunnel)
        self.done.append(("end", tunnel, who))
        return tunnel

    def answer(self, tunnel: str, *, yes: bool, who: str) -> str:
        """Note it."""
        self.done.append(("yes" if yes else "no", tunnel, who))
        return tunnel


MINE, OTHER = "0a3c1ca2-be6c-453a-a2e0-837ddbc74d4f", "1b3c1ca2-be6c-453a-a2e0-837ddbc74d4f"


def console_with_tunnels() -> tuple[LocalConsole, Desk]:
    """One that shows tunnels."""
    served, desk = console(), Desk()
    served.show_tunnels(desk)
    return served, desk


async def test_buttons_are_for_the_consoles_own_page_with_its_session() -> None:
    """A request that lacks any of the method, the session and the origin does nothing."""
    served, desk = console_with_tunnels()
    async with served.served():
        bearer = f"Bearer {await session_of(served)}"
        own = {"origin": "http://127.0.0.1", "sec_fetch_site": "same-origin"}
        for request, headers, expected in (
            (f"POST /tunnels/{MINE}/end", {**own}, 401),
            (f"POST /tunnels/{MINE}/end", {**own, "authorization": "Bearer x"}, 401),
            (f"POST /tunnels/{MINE}/end", {"authorization": bearer}, 403),
            (f"POST /tunnels/{MINE}/end", {"authorization": bearer, "origin": "http://127.0.0.1:9"}, 403),
            (f"POST /tunnels/{MINE}/allow", {"authorization": bearer, "origin": "null"}, 403),
            (f"POST /tunnels/{MINE}/allow", {**own, "authorization": bearer, "sec_fetch_site": "same-site"}, 403),
            (f"GET /tunnels/{MINE}/allow", {**own, "authorization": bearer}, 405),
            (f"POST /tunnels/{MINE}/other", {**own, "authorization": bearer}, 404),
            (f"POST /tunnels/{OTHER}/end", {**own, "authorization": bearer}, 404),
        ):
            assert (await ask(served, request, **headers))[0] == expected, (request, headers)
        assert desk.done == []
        for deed in ("allow", "deny", "end"):
            assert (await ask(served, f"POST /tunnels/{MINE}/{deed}?x", authorization=bearer, **own))[0] == 200
    assert [one[0] for one in desk.done] == ["yes", "no", "end"]


async def test_who_comes_through_a_tunnel_is_not_at_the_machine() -> None:
    """Their session counts on that tunnel's connections alone; they see and end that tunnel, and cannot give consent."""
    served, desk = console_with_tunnels()

    async def ask_through(tunnel: str, text: str, **headers: str) -> tuple[int, str]:
        """The same as `ask`, through a tunnel, from another port of the operator's machine."""
        connection = await served.connect(tunnel)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        everything = {"host": "localhost:50123", "connection": "close", **headers}
        lines = [f"{text} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in everything.items())]
        async with asyncio.timeout(PATIENCE_S):
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = (await reader.read()).decode()
        writer.close()
        return int(answer.split()[1]), answer

    async with served.served():
        local = f"Bearer {await session_of(served)}"
        path = served.invite(MINE)
        assert path.startswith("/#ticket=")
        ticket = {"authorization": f"Ticket {path.partition('=')[2]}"}
        assert (await ask(served, "POST /session", **ticket))[0] == 401
        assert (await ask_through(OTHER, "POST /session", **ticket))[0] == 401
        status, answer = await ask_through(MINE, "POST /session", **ticket)
        assert status == 200 and (await ask_through(MINE, "POST /session", **ticket))[0] == 401
        bearer = {
            "authorization": f"Bearer {json.loads(answer.partition(chr(13) + chr(10) + chr(13) + chr(10))[2])['session']}"
        }
        assert (await ask(served, "GET /status.json", **bearer))[0] == 401
        assert (await ask_through(OTHER, "GET /status.json", **bearer))[0] == 401
        assert (await ask_through(MINE, "GET /status.json", authorization=local))[0] == 401
        status, answer = await ask_through(MINE, "GET /status.json", **bearer)
        assert status == 200 and json.loads(answer.splitlines()[-1])["tunnels"] == {"seen": MINE}
        own = {**bearer, "origin": "http://localhost:50123"}
        for tunnel, deed, expected in (
            (MINE, "allow", 403),
            (MINE, "deny", 403),
            (OTHER, "end", 403),
            (MINE, "end", 200),
        ):
            assert (await ask_through(MINE, f"POST /tunnels/{tunnel}/{deed}", **own))[0] == expected
        assert [one[:2] for one in desk.done] == [("end", MINE)]
        waiting = await served.connect(MINE)
        served.shut(MINE)
        reader, writer = await asyncio.open_unix_connection(sock=waiting)
        assert await has_ended(reader)
        writer.close()
        assert (await ask_through(MINE, "GET /status.json", **bearer))[0] == 401


async def test_without_a_port_there_are_no_links() -> None:
    """Where it is off, where its port is taken, and after its end: no link that would lead somebody else's way."""
    off = LocalConsole(None, tell)
    async with off.served(), (first := console()).served():
        port = int(str(first.describe()["address"]).rpartition(":")[2])
        async with (second := LocalConsole(ListenAddress("127.0.0.1", port), tell)).served():
            assert "in use" in second.describe()["trouble"]
            for one in (off, second):
                with pytest.raises(ConsoleNotServed):
                    await one.make_link({})
        assert off.describe() == {"enabled": False, "address": None, "trouble": None}
    with pytest.raises(ConsoleNotServed):
        await first.make_link({})


def test_tickets_and_sessions_end() -> None:
    """A ticket opens once and for a while, a session lasts for a while, and the oldest of too many give way."""
    now = 0.0
    access = Access(lambda: now)
    ticket = access.make_ticket()
    session = access.exchange(ticket)
    assert session is not None and access.admits(session) and not access.admits(ticket)
    assert access.exchange(ticket) is None and access.exchange(session) is None
    late = access.make_ticket()
    now = TICKET_S
    assert access.exchange(late) is None and access.admits(session)
    now = SESSION_S
    assert not access.admits(session)
    tickets = [access.make_ticket() for _ in range(MOST_TICKETS + 1)]
    assert access.exchange(tickets[0]) is None
    opened = [access.exchange(access.make_ticket()) for _ in range(MOST_SESSIONS + 1)]
    assert [access.admits(one or "") for one in opened] == [False, *([True] * MOST_SESSIONS)]
