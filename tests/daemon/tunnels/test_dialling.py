"""Dialling with real sockets: canaries that nobody may reach, names that change their mind, and what comes of each attempt."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantry.daemon.domain.tunnel_policy import Allowed, TunnelPolicy
from tenantry.daemon.tunnels import dialling
from tenantry.daemon.tunnels.dialling import MOST_RESOLVING, DialFailed, Dialler, MasterAddresses, resolve_by_system
from tenantry.protocol.addresses import Address, read_address
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.targets import Target
from tests.daemon.tunnels.test_tunnel_policy import DISGUISED, EVERYWHERE, NEAR, SPELLINGS, policy
from tests.servers.deadlines import PATIENCE_S, within

NAMES = '[[allow]]\nhost = "*.example"\nports = "all"\n'


@dataclass
class Canary:
    """Listens on one port of several addresses of this machine, and counts who comes."""

    port: int = 0
    visits: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def listening(self) -> Iterator["Canary"]:
        """Until the block ends."""
        with contextlib.ExitStack() as stack:
            sockets = []
            for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
                listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address, self.port))
                listener.listen(64)
                listener.setblocking(False)
                self.port = listener.getsockname()[1]
                sockets.append(listener)
            yield self
            for listener in sockets:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection, peer = listener.accept()
                        self.visits.append(str(peer))
                        connection.close()


async def nobody() -> frozenset[Address]:
    """The Master's own addresses, where there are none."""
    return frozenset()


async def dial(
    found: TunnelPolicy, host: str, port: int, *resolved: list[str], consented: bool = False
) -> TunnelEnd | str:
    """Why it was not dialled, or the address that was."""
    answers = iter(resolved)
    dialler = Dialler(lambda name, _: next(answers) if resolved else resolve_by_system(name, 80))
    try:
        connection = await dialler.dial(found, Target(host, port), nobody, consented=consented)
    except DialFailed as failed:
        return failed.end
    with connection:
        return str(connection.getpeername()[0])


async def test_no_canary_is_reached_by_any_spelling_or_disguise() -> None:
    """The whole corpus, asked for as it is and as what a name resolves to: 0 dials outside of the list."""
    with Canary().listening() as canary:
        wide = policy(EVERYWHERE + NAMES)
        for host in (*SPELLINGS, *DISGUISED, *NEAR, "localhost", "LOCALHOST.", "x.localhost", "other.test"):
            assert await dial(wide, host, canary.port) is TunnelEnd.POLICY, host
        for host in (*DISGUISED, *NEAR, "fe80::1%lo", "127.0.0.1%x"):
            assert await dial(wide, "name.example", canary.port, [host]) is TunnelEnd.POLICY, host
            assert await dial(wide, "name.example", canary.port, ["192.0.2.1", host]) is TunnelEnd.POLICY, host
    assert canary.visits == []


async def test_a_canary_that_is_listed_is_reached() -> None:
    """Otherwise the test above would prove nothing."""
    with Canary().listening() as canary:
        listed = policy(NAMES + f'[[allow]]\nhost = "127.0.0.3"\nports = [{canary.port}]')
        assert await dial(listed, "127.0.0.3", canary.port) == "127.0.0.3"
        assert await dial(listed, "::ffff:127.0.0.3", canary.port) == "127.0.0.3"
        assert await dial(listed, "name.example", canary.port, ["127.0.0.3"]) == "127.0.0.3"
        assert await dial(listed, "127.0.0.4", canary.port) is TunnelEnd.POLICY
    assert len(canary.visits) == 3


async def test_an_address_with_consent_is_dialled_for_a_tunnel_that_has_it_only() -> None:
    """Under whatever name, alone or with others, and as an address that stands for it; nobody learns why."""
    with Canary().listening() as canary:
        entry = '[[allow]]\nhost = "{}"\nports = "all"\n'
        listed = policy(
            entry.format("*.example")
            + entry.format("127.0.0.4")
            + (entry + 'consent = "always"\n').format("127.0.0.3")
            + (entry + 'consent = "always"\n').format("10.0.0.5")
            + entry.format("64:ff9b::/96")
        )
        assert await dial(listed, "vm.example", canary.port, ["127.0.0.4"]) == "127.0.0.4"
        for found in (["127.0.0.3"], ["::ffff:127.0.0.3"], ["127.0.0.4", "127.0.0.3"], ["64:ff9b::10.0.0.5"]):
            assert await dial(listed, "vm.example", canary.port, found) is TunnelEnd.POLICY
        for host in ("127.0.0.3", "64:ff9b::10.0.0.5"):
            assert await dial(listed, host, canary.port) is TunnelEnd.POLICY
        assert await dial(listed, "vm.example", canary.port, ["127.0.0.3"], consented=True) == "127.0.0.3"
        assert await dial(listed, "127.0.0.3", canary.port, consented=True) == "127.0.0.3"
    assert len(canary.visits) == 3


async def test_a_name_is_resolved_once() -> None:
    """Rebinding: a second answer of the resolver, if anybody asked for it, would be an address that is not allowed."""
    with Canary().listening() as canary:
        listed = policy(NAMES + f'[[allow]]\nhost = "127.0.0.3"\nports = [{canary.port}]')
        assert await dial(listed, "name.example", canary.port, ["127.0.0.3"], ["127.0.0.1"]) == "127.0.0.3"
        assert await dial(listed, "name.example", canary.port, ["127.0.0.1"], ["127.0.0.3"]) is TunnelEnd.POLICY


async def test_a_name_that_is_not_listed_is_not_resolved() -> None:
    """Nobody learns by it which names there are."""
    asked: list[str] = []

    def resolve(name: str, _port: int) -> list[str]:
        asked.append(name)
        return []

    dialler = Dialler(resolve)
    with pytest.raises(DialFailed) as refused:
        await dialler.dial(policy(NAMES), Target("secret.internal", 80), nobody, consented=True)
    assert (refused.value.end, refused.value.detail, asked) == (TunnelEnd.POLICY, "", [])


async def test_what_comes_of_an_attempt_is_told() -> None:
    """Refused, not found, unreachable; the next address where one does not answer; never a socket to itself."""
    with Canary().listening() as canary, socket.socket() as closed:
        closed.bind(("127.0.0.5", 0))
        shut = closed.getsockname()[1]
        loopback = policy(
            NAMES + '[[allow]]\nhost = "127.0.0.0/8"\nports = "all"\n[[allow]]\nhost = "::1"\nports = "all"'
        )
        assert await dial(loopback, "127.0.0.5", shut) is TunnelEnd.TARGET_REFUSED
        assert await dial(loopback, "no-such-name.example", 80) is TunnelEnd.TARGET_NOT_FOUND
        assert await dial(loopback, "name.example", 80, []) is TunnelEnd.TARGET_NOT_FOUND
        anywhere = policy(EVERYWHERE)
        assert await dial(anywhere, "2001:db8::1", 80) in (TunnelEnd.TARGET_UNREACHABLE, TunnelEnd.TARGET_TIMED_OUT)
        assert canary.port != shut
        assert await dial(loopback, "name.example", canary.port, ["127.0.0.6", "127.0.0.7"]) == "127.0.0.6"


async def test_who_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In time, and the file descriptor with it."""
    monkeypatch.setattr(dialling, "DIAL_S", 0.2)
    with socket.socket() as full:
        full.bind(("127.0.0.8", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.8", port))
        listed = TunnelPolicy(
            (Allowed(None, policy('[[allow]]\nhost = "127.0.0.8"\nports = "all"').allowed[0].networks, (), False),)
        )
        assert await dial(listed, "127.0.0.8", port) is TunnelEnd.TARGET_TIMED_OUT
        for filler in fillers:
            filler.close()


async def test_a_resolver_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for its time and no longer; there is a most of them; the loop goes on."""
    monkeypatch.setattr(dialling, "RESOLVE_S", 0.1)
    release = threading.Event()

    def hang(_name: str, _port: int) -> list[str]:
        release.wait(PATIENCE_S)
        return ["192.0.2.1"]

    dialler = Dialler(hang)
    target = Target("name.example", 80)
    try:
        async with within(PATIENCE_S):
            ended = await asyncio.gather(
                *(dialler.look_up(target) for _ in range(MOST_RESOLVING + 1)), return_exceptions=True
            )
        ends = [one.end for one in ended if isinstance(one, DialFailed)]
        assert ends.count(TunnelEnd.TARGET_NOT_FOUND) == MOST_RESOLVING and ends.count(TunnelEnd.LIMIT) == 1
    finally:
        release.set()


async def test_without_a_thread_nothing_is_resolved_and_no_place_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than there are places: each is told; and when there are threads again, names are resolved again."""
    dialler = Dialler(lambda _name, _port: ["192.0.2.1"])
    target = Target("name.example", 80)

    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(MOST_RESOLVING + 1):
            with pytest.raises(DialFailed) as failed:
                await dialler.look_up(target)
            assert (failed.value.end, failed.value.detail) == (TunnelEnd.LIMIT, "no name can be resolved now")
    assert await dialler.look_up(target) == [read_address("192.0.2.1")]


async def test_the_masters_addresses_are_found() -> None:
    """Written as addresses, by name, and as they were found before where the name is not found any more."""
    answers: list[list[str]] = [["192.0.2.1", "2001:db8::1"]]

    def resolve(_name: str, _port: int) -> list[str]:
        if not answers:
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return answers.pop()

    master = MasterAddresses(Dialler(resolve), ["master.example", "192.0.2.9"])
    expected = {read_address(text) for text in ("192.0.2.1", "2001:db8::1", "192.0.2.9")}
    assert await master() == expected
    master._looked_at = float("-inf")
    assert await master() == expected


@pytest.fixture(autouse=True)
async def no_file_descriptor_stays_open() -> AsyncIterator[None]:
    """Whatever comes of a dial."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
