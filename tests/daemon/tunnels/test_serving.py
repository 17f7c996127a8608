"""Tunnels at the Tenant's end, from the offer to the last line in the log."""

import asyncio
import json
import shutil
import socket
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenantry.daemon.domain.failures import ConsentNotAsked, TunnelNotHeld
from tenantry.daemon.tunnels import left_behind as left_behind_module
from tenantry.daemon.tunnels import serving as serving_module
from tenantry.daemon.tunnels import tickets as tickets_module
from tenantry.daemon.tunnels.dialling import Dialler
from tenantry.daemon.tunnels.left_behind import LeftBehind, left_behind
from tenantry.protocol.messages import TenantState, TunnelReport, TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.targets import Target
from tests.daemon.tunnels.serving import GUID, OPERATOR, Site, read_recording, running_site
from tests.servers.deadlines import PATIENCE_S, eventually

LOOPBACK = '[[allow]]\nhost = "127.0.0.1"\nports = "all"\n'
CONSOLE = Target("console", 0)
MUCH = 32 << 20
"""More than is under way and waits to be recorded when a recording has come to its end."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A Tenant whose policy allows loopback."""
    async with running_site(tmp_path, LOOPBACK) as running:
        yield running


@pytest.fixture
async def echo() -> AsyncIterator[Target]:
    """A server that says what it is told, and ends when it is ended."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])


async def say(connection: socket.socket, data: bytes, answer: bytes) -> None:
    """Send something, and get the answer."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, data)
    got = b""
    while len(got) < len(answer):
        got += await loop.sock_recv(connection, 65_536)
    assert got == answer


async def test_a_connection_through_a_tunnel_is_carried_counted_and_logged(site: Site, echo: Target) -> None:
    """The log has who, why, where to, how much and how it ended, under the Master's id."""
    grant = await site.opened(echo)
    async with site.connected(grant, echo) as (connection, end):
        await say(connection, b"hello", b"hello")
        held = site.tunnels.describe()["held"]
        assert [(one["tunnel"], one["open_connections"], one["bytes_up"]) for one in held] == [(grant.tunnel, 1, 5)]
        connection.shutdown(socket.SHUT_WR)
        assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""
        assert (await end).end is TunnelEnd.FINISHED
    await eventually(lambda: not site.tunnels.describe()["held"][0]["open_connections"], "no connection")
    site.tunnels.ended(grant.tunnel, TunnelEnd.BY_OPERATOR, "")
    lines = await eventually(lambda: [one for one in site.log() if one["event"] == "ended"], "the end in the log")
    assert lines[0] | {"time_ms": 0, "asked_ms": 0, "open_ms": 0} == {
        "time_ms": 0,
        "asked_ms": 0,
        "open_ms": 0,
        "event": "ended",
        "tunnel": grant.tunnel,
        "operator": OPERATOR,
        "address": "192.0.2.5:4000",
        "targets": [str(echo)],
        "reason": "to look",
        "consented_by": "",
        "end": "by_operator",
        "detail": "",
        "connections": 1,
        "bytes_up": 5,
        "bytes_down": 5,
    }
    assert [one["event"] for one in site.log()] == ["asked", "open", "ended"]
    through = await eventually(
        lambda: [one for one in site.log("connections") if one["event"] == "connection"], "the connection in the log"
    )
    assert [(one["target"], one["end"], one["bytes_up"]) for one in through] == [(str(echo), "finished", 5)]
    assert stat.S_IMODE((site.data / "tunnels" / "tunnels.jsonl").stat().st_mode) == 0o600
    assert not [one for one in site.said if isinstance(one, TunnelReport)]


async def test_the_end_of_a_tunnel_resets_what_goes_through_it(site: Site, echo: Target) -> None:
    """By the button at the machine; the Master is told, and nothing stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    grant = await site.opened(echo)
    async with site.connected(grant, echo) as (connection, end):
        await say(connection, b"x", b"x")
        assert site.tunnels.close(grant.tunnel[:8], "a test") == grant.tunnel
        assert (await end).end is TunnelEnd.RESET
    report = await site.report(grant)
    assert (report.state, report.end) == (TunnelState.CLOSED, TunnelEnd.BY_TENANT)
    assert site.console.shut_for == [grant.tunnel] and site.tunnels.describe()["held"] == []
    with pytest.raises(TunnelNotHeld):
        site.tunnels.close(grant.tunnel, "a test")
    proving_pipes = 4
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + proving_pipes


async def test_papers_count_once_here_and_now(site: Site, echo: Target) -> None:
    """Replayed, expired, for another Tenant, tunnel, operator or target, by another key: refused, and nothing is dialled."""
    grant = await site.opened(echo)
    ticket = site.ticket(grant, echo)
    async with site.connected(grant, echo) as (connection, _):
        await say(connection, b"x", b"x")
    bad = [
        site.ticket(grant, echo, issued_ms=ticket.issued_ms - 120_000, expires_ms=ticket.issued_ms - 90_000),
        site.ticket(grant, echo, expires_ms=ticket.issued_ms + 3_600_000),
        site.ticket(grant, echo, tenant="7b7c3f0e-6c1b-4a3e-9a53-5f6f7d1c2b3a"),
        site.ticket(grant, echo, tunnel="7b7c3f0e-6c1b-4a3e-9a53-5f6f7d1c2b3a"),
        site.ticket(grant, echo, operator="mallory"),
        site.ticket(grant, Target("127.0.0.1", 1)),
    ]
    for one in bad:
        assert await site.refused(one) is TunnelEnd.TICKET
    token = site.ask(ticket)
    await site.relay.waiting[ticket.nonce]
    site.tunnels.dial_asked(token)
    assert (await site.report(ticket)).end is TunnelEnd.TICKET
    forged = token[:-8] + ("A" * 8 if not token.endswith("A" * 8) else "B" * 8)
    site.tunnels.dial_asked(forged)
    assert (await site.report(ticket)).end is TunnelEnd.TICKET
    site.tunnels.dial_asked("nothing")
    again, old = site.grant(echo, tunnel=grant.tunnel), ticket.issued_ms - 120_000
    site.offer(again)
    for changes in (
        {"tenant": GUID.replace("0", "1")},
        {"issued_ms": old, "expires_ms": old + 30_000},
        {"until_ms": 1},
    ):
        other = site.grant(echo, **changes)
        site.offer(other)
        assert (await site.report(other)).end is TunnelEnd.TICKET
    assert [one["tunnel"] for one in site.tunnels.describe()["held"]] == [grant.tunnel]


async def test_what_the_policy_does_not_allow_is_refused_without_a_word_about_what_it_does(
    site: Site, echo: Target
) -> None:
    """Before a tunnel, and before each connection of one without targets; the console out of the box."""
    refused = site.grant(Target("127.0.0.2", 80))
    site.offer(refused)
    report = await site.report(refused)
    assert (report.end, report.detail) == (TunnelEnd.POLICY, "")
    anywhere = await site.opened()
    assert await site.refused(site.ticket(anywhere, Target("127.0.0.2", echo.port))) is TunnelEnd.POLICY
    async with site.connected(anywhere, echo) as (connection, _):
        await say(connection, b"x", b"x")
    site.policy.unlink()
    console = site.grant(CONSOLE)
    site.offer(console)
    report = await site.report(console)
    assert (report.state, report.console_path) == (TunnelState.OPEN, f"/#ticket={console.tunnel[:4]}")
    async with site.connected(console, CONSOLE) as (connection, _):
        await say(connection, b"", b"the console")
    site.console.is_offered = False
    off = site.grant(CONSOLE)
    site.offer(off)
    assert (await site.report(off)).end is TunnelEnd.NOT_OFFERED


async def test_a_policy_that_changes_counts_at_once(site: Site, echo: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the next dial, for what is open, and for a file that cannot be understood, which people are told of once."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 0.05)
    named, anywhere = await site.opened(echo), await site.opened()
    async with site.connected(anywhere, echo) as (connection, end):
        await say(connection, b"x", b"x")
        site.allow("nonsense = 1")
        assert (await end).end is TunnelEnd.RESET
        assert (await site.report(named)).end is TunnelEnd.POLICY
        assert (await site.report(anywhere)).end is TunnelEnd.POLICY
    for _ in range(2):
        grant = site.grant(CONSOLE)
        site.offer(grant)
        assert (await site.report(grant)).end is TunnelEnd.POLICY
    assert len(site.warnings) == 1 and "nonsense" in site.warnings[0]
    assert "nonsense" in site.tunnels.describe()["policy"]["trouble"]
    site.allow(LOOPBACK)
    site.policy.chmod(0o666)
    grant = site.grant(echo)
    site.offer(grant)
    assert (await site.report(grant)).end is TunnelEnd.POLICY and "others may write" in site.warnings[1]


async def test_a_policy_that_becomes_stricter_counts_for_what_is_open(
    site: Site, echo: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consent that is asked for now ends what has none, and says so; shorter times count, longer ones do not."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 0.05)
    none, anywhere = await site.opened(echo), await site.opened()
    site.allow('consent = "always"\n' + LOOPBACK)
    for grant in (none, anywhere):
        report = await site.report(grant)
        assert (report.end, "consent" in report.detail) == (TunnelEnd.POLICY, True)
    given = site.grant(echo)
    site.offer(given)
    assert (await site.report(given)).state is TunnelState.WAITING_FOR_CONSENT
    site.tunnels.answer(given.tunnel, yes=True, who="grace")
    assert (await site.report(given)).state is TunnelState.OPEN
    site.allow('consent = "always"\nlongest = "30m"\n' + LOOPBACK)
    shorter = await site.report(given)
    assert shorter.state is TunnelState.OPEN and shorter.until_ms is not None
    assert shorter.until_ms == site.tunnels.describe()["held"][0]["until_ms"] < given.issued_ms + 1_900_000
    async with site.connected(given, echo) as (connection, _):
        await say(connection, b"x", b"x")
    site.allow('consent = "always"\nlongest = "3h"\nidle = "1s"\n' + LOOPBACK)
    assert (await site.report(given)).end is TunnelEnd.IDLE
    site.allow(LOOPBACK)
    long = await site.opened(echo)
    async with site.connected(long, echo) as (connection, end):
        await say(connection, b"x", b"x")
        site.allow('longest = "1s"\n' + LOOPBACK)
        assert (await end).end is TunnelEnd.RESET
    assert [(await site.report(long)).end for _ in range(2)] == [None, TunnelEnd.LONGEST]


async def test_consent_that_is_asked_for_now_counts_for_dials_and_for_what_a_name_led_to(
    tmp_path: Path, echo: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the policy too: a dial is refused without a word; a connection to an address that has it now ends."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 0.05)
    entry = '[[allow]]\nhost = "vm.example"\nports = "all"\n'
    vm = Target("vm.example", echo.port)
    async with running_site(tmp_path, entry + LOOPBACK, Dialler(lambda _name, _port: ["127.0.0.1"])) as site:
        grant, console = await site.opened(vm), await site.opened(CONSOLE)
        async with site.connected(grant, vm) as (connection, end):
            await say(connection, b"x", b"x")
            site.allow(entry + LOOPBACK + 'consent = "always"\n')
            ticket = site.ticket(grant, vm)
            site.ask(ticket)
            report = await site.report(ticket)
            assert (report.end, report.detail) == (TunnelEnd.POLICY, "")
            assert (await end).end is TunnelEnd.RESET
        assert [one["tunnel"] for one in site.tunnels.describe()["held"]] == [grant.tunnel, console.tunnel]
        monkeypatch.setattr(serving_module, "_LOOK_S", PATIENCE_S)
        other = await site.opened(CONSOLE)
        site.allow('consent = "always"\n')
        assert await site.refused(site.ticket(other, CONSOLE)) is TunnelEnd.POLICY


async def test_an_idle_tunnel_ends_at_its_time(site: Site, echo: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the policy is looked at next; what goes through it puts that off."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 100 * PATIENCE_S)
    idle = await site.opened(echo, idle_ms=1_000)
    async with site.connected(idle, echo) as (connection, _):
        await say(connection, b"x", b"x")
    assert (await site.report(idle)).end is TunnelEnd.IDLE


async def test_consent(site: Site, echo: Target) -> None:
    """A tunnel waits until somebody says yes; a no, no answer in time, and an operator who goes away end it."""
    site.allow('consent = "always"\n' + LOOPBACK)
    yes, no, gone = site.grant(echo), site.grant(echo), site.grant(echo)
    for grant in (yes, no, gone):
        site.offer(grant)
        assert (await site.report(grant)).state is TunnelState.WAITING_FOR_CONSENT
    assert await site.refused(site.ticket(yes, echo)) is TunnelEnd.TICKET
    waiting = await eventually(lambda: site.tunnels.describe()["waiting"], "questions")
    assert [(one["operator"], one["reason"]) for one in waiting] == [(OPERATOR, "to look")] * 3
    site.tunnels.answer(yes.tunnel[:8], yes=True, who="grace")
    assert (await site.report(yes)).state is TunnelState.OPEN
    site.tunnels.answer(no.tunnel, yes=False, who="grace")
    assert (await site.report(no)).end is TunnelEnd.CONSENT_DENIED
    site.tunnels.ended(gone.tunnel, TunnelEnd.BY_OPERATOR, "")
    await eventually(lambda: not site.tunnels.describe()["waiting"], "no question")
    for tunnel in (yes.tunnel, gone.tunnel, "", "zz"):
        with pytest.raises(ConsentNotAsked):
            site.tunnels.answer(tunnel, yes=True, who="grace")
    assert [one["consented_by"] for one in site.tunnels.describe()["held"]] == ["grace"]
    site.allow('consent = "always"\nconsent_within = "1s"\n' + LOOPBACK)
    late = site.grant(echo)
    site.offer(late)
    assert (await site.report(late)).state is TunnelState.WAITING_FOR_CONSENT
    assert (await site.report(late)).end is TunnelEnd.CONSENT_TIMED_OUT


async def test_limits(site: Site, echo: Target) -> None:
    """So many tunnels, connections through one, dials a minute, a reason."""
    site.allow('tunnels = 1\nconnections = 1\ndials_per_minute = 3\nreason = "required"\n' + LOOPBACK)
    silent = site.grant(echo, reason="")
    site.offer(silent)
    assert (await site.report(silent)).end is TunnelEnd.REASON_MISSING
    grant = await site.opened(echo)
    second = site.grant(echo)
    site.offer(second)
    assert (await site.report(second)).end is TunnelEnd.LIMIT
    async with site.connected(grant, echo) as (connection, _):
        await say(connection, b"x", b"x")
        assert await site.refused(site.ticket(grant, echo)) is TunnelEnd.LIMIT
    await eventually(lambda: not site.tunnels.describe()["held"][0]["open_connections"], "no connection")
    for _ in range(2):
        async with site.connected(grant, echo) as (connection, _):
            await say(connection, b"x", b"x")
        await eventually(lambda: not site.tunnels.describe()["held"][0]["open_connections"], "no connection")
    assert await site.refused(site.ticket(grant, echo)) is TunnelEnd.LIMIT


async def test_times_end_a_tunnel(site: Site, echo: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest, the idle one, and a link that stays away with nothing open."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 0.05)
    before = await site.opened(echo)  # the process that proves has to start
    long = await site.opened(echo, until_ms=before.issued_ms + 8_000)
    assert (await site.report(long)).end is TunnelEnd.LONGEST
    site.tunnels.ended(before.tunnel, TunnelEnd.BY_OPERATOR, "")
    idle = await site.opened(echo, idle_ms=300)
    assert (await site.report(idle)).end is TunnelEnd.IDLE
    monkeypatch.setattr(serving_module, "UNLINKED_S", 0.1)
    left, used = await site.opened(echo), await site.opened(echo)
    async with site.connected(used, echo) as (connection, _):
        await say(connection, b"x", b"x")
        site.conduct["linked"] = False
        await eventually(lambda: len(site.tunnels.describe()["held"]) == 1, "one tunnel")
        assert site.tunnels.describe()["held"][0]["tunnel"] == used.tunnel
        site.conduct["linked"] = True
        news = site.tunnels.news()
    assert [(one.tunnel_id, one.state, one.end) for one in news if isinstance(one, TunnelReport)] == [
        (left.tunnel, TunnelState.CLOSED, TunnelEnd.LINK_LOST),
        (used.tunnel, TunnelState.OPEN, None),
    ]
    assert news[-1] == TunnelsHeld((used.tunnel,)) and site.tunnels.news()[0] != news[0]


async def test_states_and_what_the_master_keeps_end_tunnels(site: Site, echo: Target) -> None:
    """Maintenance is a state for tunnels, Unregistered is none; what the Master does not hold is over."""
    kept, other = await site.opened(echo), await site.opened(echo)
    site.tunnels.kept([kept.tunnel])
    await eventually(lambda: len(site.tunnels.describe()["held"]) == 1, "one tunnel")
    site.enter(TenantState.MAINTENANCE)
    third = await site.opened(echo)
    site.enter(TenantState.UNREGISTERED)
    for grant in (kept, third):
        assert (await site.report(grant)).end is TunnelEnd.STATE
    refused = site.grant(echo)
    site.offer(refused)
    assert (await site.report(refused)).end is TunnelEnd.STATE
    assert other.tunnel not in str(site.tunnels.describe())


async def test_a_dial_that_comes_to_nothing_is_told(site: Site) -> None:
    """With the kind of failure; a relay that is away too."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        shut = Target("127.0.0.1", closed.getsockname()[1])
        grant = await site.opened()
        assert await site.refused(site.ticket(grant, shut)) is TunnelEnd.TARGET_REFUSED
        closed.listen()
        site.relay.away = True
        assert await site.refused(site.ticket(grant, shut)) is TunnelEnd.LINK_LOST
    assert (await eventually(lambda: site.log("connections"), "the log"))[0]["end"] == "target_refused"


async def test_an_operator_who_goes_away_at_once_leaves_no_tunnel(site: Site, echo: Target) -> None:
    """The end may come before the offer is proven."""
    gone, other = site.grant(echo), site.grant(echo)
    site.offer(gone)
    site.tunnels.ended(gone.tunnel, TunnelEnd.BY_OPERATOR, "")
    site.offer(other)
    assert (await site.report(other)).state is TunnelState.OPEN
    assert [one["tunnel"] for one in site.tunnels.describe()["held"]] == [other.tunnel]


async def test_a_log_that_cannot_be_written_means_no_tunnel(site: Site, echo: Target) -> None:
    """Nobody gets in unseen."""
    (site.data / "tunnels").write_text("in the way")
    grant = site.grant(echo)
    site.offer(grant)
    report = await site.report(grant)
    assert (report.end, "log" in report.detail) == (TunnelEnd.NOT_OFFERED, True)
    assert site.tunnels.describe()["log"]["trouble"]


async def test_a_tunnel_that_a_dead_daemon_left_gets_its_end(tmp_path: Path, echo: Target) -> None:
    """In the log of the next one."""
    async with running_site(tmp_path / "a", LOOPBACK) as first:
        grant = await first.opened(echo)
        lines = first.log()
    folder = tmp_path / "b" / "data" / "tunnels"
    folder.parent.mkdir(parents=True, mode=0o700)
    folder.mkdir(mode=0o700)
    (folder / "tunnels.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"torn')
    async with running_site(tmp_path / "b", LOOPBACK) as second:
        ended = await eventually(lambda: [one for one in second.log() if one["event"] == "ended"], "its end")
    assert [(one["tunnel"], one["end"]) for one in ended] == [(grant.tunnel, "link_lost")]
    assert [one["end"] for one in first.log() if one["event"] == "ended"] == ["link_lost"]


async def test_the_log_says_where_a_tunnel_led_before_anything_goes_there(
    tmp_path: Path, echo: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a target; a daemon that is killed with connections open has said it, and the next one what is not known."""
    killed = tmp_path / "b" / "data" / "tunnels"
    async with running_site(tmp_path / "a", LOOPBACK) as first:
        past = await first.opened()
        async with first.connected(past, echo) as (connection, _):
            await say(connection, b"x", b"x")
        first.tunnels.ended(past.tunnel, TunnelEnd.BY_OPERATOR, "")
        grant = await first.opened()
        async with first.connected(grant, echo) as (one, _), first.connected(grant, echo) as (other, _):
            await say(one, b"x", b"x")
            await say(other, b"x", b"x")
            killed.parent.mkdir(parents=True, mode=0o700)
            shutil.copytree(first.data / "tunnels", killed)
            lines = [line for line in first.log("connections") if line["event"] == "reached"]
        assert [(line["tunnel"], line["target"], line["operator"]) for line in lines] == [
            (past.tunnel, str(echo), OPERATOR),
            (grant.tunnel, str(echo), OPERATOR),
        ]
        monkeypatch.setattr(tickets_module, "MOST_REACHED", 0)
        more = await first.opened()
        for _ in range(2):
            async with first.connected(more, echo) as (connection, _):
                await say(connection, b"x", b"x")
        assert [one["event"] for one in first.log("connections") if one["tunnel"] == more.tunnel].count("reached") == 2
    for _ in range(2):
        async with running_site(tmp_path / "b", LOOPBACK) as second:
            left = await eventually(
                lambda: [one for one in second.log("connections") if one["event"] == "left"], "what was left"
            )
            await second.opened(echo)
        assert [(one["tunnel"], one["target"], "not known" in one["detail"]) for one in left] == [
            (grant.tunnel, str(echo), True)
        ]


async def test_a_log_that_cannot_say_where_a_tunnel_leads_means_no_connection(site: Site, echo: Target) -> None:
    """Nothing passes; the next connection is carried when the log can be written again."""
    grant = await site.opened(echo)
    (site.data / "tunnels").rename(site.data / "elsewhere")
    (site.data / "tunnels").write_text("in the way")
    ticket = site.ticket(grant, echo)
    site.ask(ticket)
    report = await site.report(ticket)
    assert (report.end, "log" in report.detail, site.relay.streams) == (TunnelEnd.NOT_OFFERED, True, 0)
    (site.data / "tunnels").unlink()
    async with site.connected(grant, echo) as (connection, _):
        await say(connection, b"x", b"x")


async def test_a_tunnel_of_this_daemon_is_not_taken_for_one_of_a_dead_daemon(
    tmp_path: Path, echo: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offers wait until the log has been looked through, however long that takes; then there is one end."""
    looking, go_on = threading.Event(), threading.Event()

    def look_slowly(data: Path) -> LeftBehind:
        looking.set()
        assert go_on.wait(PATIENCE_S)
        return left_behind(data)

    monkeypatch.setattr(left_behind_module, "left_behind", look_slowly)
    async with running_site(tmp_path, LOOPBACK) as site:
        await eventually(looking.is_set, "a look into the log")
        grant = site.grant(echo)
        site.offer(grant)
        for _ in range(3):
            await site.tunnels._proving.prove_grant(site.signer.sign_grant(site.grant(echo), site.authority))
        go_on.set()
        assert (await site.report(grant)).state is TunnelState.OPEN
    assert [one["event"] for one in site.log()] == ["asked", "open", "ended"]


async def test_recordings(site: Site, echo: Target, tmp_path: Path) -> None:
    """Both directions, for nobody else to read; what cannot be recorded any more is ended."""
    place = tmp_path / "recordings"
    site.allow(f'recording = "{place}"\nrecording_limit = "1MiB"\n' + LOOPBACK)
    grant = await site.opened(echo)
    async with site.connected(grant, echo) as (connection, _):
        await say(connection, b"hello", b"hello")
    files = await eventually(lambda: list(place.glob("*")) if not site.relay.streams else [], "a recording")
    head, parts = read_recording(files[0])
    assert (head["operator"], head["target"], parts) == (OPERATOR, str(echo), [(">", b"hello"), ("<", b"hello")])
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600 and grant.tunnel in files[0].name
    async with site.connected(grant, echo) as (connection, end):
        pumping = asyncio.get_running_loop().sock_sendall(connection, b"x" * MUCH)
        with pytest.raises(ConnectionError):
            await asyncio.gather(pumping, say(connection, b"", b"x" * MUCH))
        assert (await end).end is TunnelEnd.POLICY
    assert sum(one.stat().st_size for one in place.glob("*")) <= 1 << 20
