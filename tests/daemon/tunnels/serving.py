"""Tunnels in the process of the test: a Master that signs, an operator's end, a console; proving, dialling and logs are real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenantry.daemon.tunnels.connecting import Connecting
from tenantry.daemon.tunnels.dialling import Dialler
from tenantry.daemon.tunnels.log import read_log
from tenantry.daemon.tunnels.policy_file import PolicyFile
from tenantry.daemon.tunnels.proving import Proving
from tenantry.daemon.tunnels.serving import Tunnels
from tenantry.daemon.tunnels.surroundings import RelayLost, Surroundings
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.tunnel_key import TunnelSigner, load_tunnel_key
from tenantry.process.files import private_directory, write_private
from tenantry.protocol.addresses import Address
from tenantry.protocol.messages import FromDaemon, TenantState, TunnelReport
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import EndLimits
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import Grant, Ticket
from tenantry.protocol.tunnels.targets import Target
from tenantry.protocol.tunnels.watch import Side
from tenantry.transport.tunnel_ends import EndReport, SocketEnd, StreamPort
from tests.servers.deadlines import eventually, within

DOMAIN = "tenantry.internal"
GUID = "0b7c3f0e-6c1b-4a3e-9a53-5f6f7d1c2b3a"
OPERATOR = "ada"


class Pipe:
    """One end of a stream of messages."""

    def __init__(self, incoming: asyncio.Queue[bytes | None], outgoing: asyncio.Queue[bytes | None]) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    async def read(self) -> bytes | None:
        """The next message; None at the end, for ever."""
        message = await self._incoming.get()
        if message is None:
            self._incoming.put_nowait(None)
        return message

    async def write(self, message: bytes) -> None:
        """Send one."""
        self._outgoing.put_nowait(message)

    def end(self) -> None:
        """No more comes from here."""
        self._outgoing.put_nowait(None)


@dataclass
class FakeRelay:
    """Joins the daemon's streams with ends that wait here by nonce."""

    waiting: dict[bytes, asyncio.Future[Pipe]] = field(default_factory=dict)
    away: bool = False
    streams: int = 0

    @contextlib.asynccontextmanager
    async def expecting(self, _nonce: bytes) -> AsyncIterator[None]:
        """There is nothing to make ready."""
        yield

    @contextlib.asynccontextmanager
    async def stream(self, _port: int, nonce: bytes, _window: int) -> AsyncIterator[tuple[StreamPort, int]]:
        """A stream that somebody waits for."""
        if self.away:
            raise RelayLost("nobody there")
        up: asyncio.Queue[bytes | None] = asyncio.Queue()
        down: asyncio.Queue[bytes | None] = asyncio.Queue()
        mine = Pipe(up, down)
        self.waiting[nonce].set_result(Pipe(down, up))
        self.streams += 1
        try:
            yield mine, FIRST_WINDOW
        finally:
            self.streams -= 1
            mine.end()

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class FakeConsole:
    """A console that says hello."""

    is_offered: bool = True
    shut_for: list[str] = field(default_factory=list)

    def invite(self, tunnel: str) -> str:
        """Where it lets somebody in."""
        return f"/#ticket={tunnel[:4]}"

    async def connect(self, _tunnel: str) -> socket.socket:
        """A connection on which something waits."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(b"the console")
        theirs.close()
        return ours

    def shut(self, tunnel: str) -> None:
        """Note it."""
        self.shut_for.append(tunnel)


@dataclass
class Site:
    """A Tenant with its tunnels, and what its Master does and hears."""

    data: Path
    authority: Authority
    signer: TunnelSigner
    relay: FakeRelay
    console: FakeConsole
    tunnels: Tunnels
    said: list[FromDaemon]
    warnings: list[str]
    policy: Path
    conduct: dict[str, Any]

    def allow(self, text: str) -> None:
        """Write the policy, in one step: one that is half written allows nothing."""
        new = self.policy.with_suffix(".new")
        new.write_text(text)
        new.replace(self.policy)

    def enter(self, state: TenantState) -> None:
        """Change the Tenant's state."""
        self.conduct["state"] = state
        changed, self.conduct["changed"] = self.conduct["changed"], asyncio.Event()
        changed.set()

    def grant(self, *targets: Target, **changes: Any) -> Grant:
        """A good one, or what is said otherwise."""
        now = time.time_ns() // 1_000_000
        values: dict[str, Any] = {
            "tunnel": str(uuid.uuid4()),
            "tenant": GUID,
            "operator": OPERATOR,
            "address": "192.0.2.5:4000",
            "targets": targets,
            "reason": "to look",
            "issued_ms": now,
            "expires_ms": now + 30_000,
            "until_ms": now + 3_600_000,
            "idle_ms": 600_000,
        }
        return Grant(**{**values, **changes})

    def offer(self, grant: Grant) -> None:
        """The Master asks."""
        self.tunnels.offered(self.signer.sign_grant(grant, self.authority), 7448)

    async def opened(self, *targets: Target, **changes: Any) -> Grant:
        """A tunnel that is open."""
        grant = self.grant(*targets, **changes)
        self.offer(grant)
        assert (await self.report(grant)).state is TunnelState.OPEN
        return grant

    def ticket(self, grant: Grant, target: Target, **changes: Any) -> Ticket:
        """A good one, or what is said otherwise."""
        now = time.time_ns() // 1_000_000
        values: dict[str, Any] = {
            "tunnel": grant.tunnel,
            "tenant": GUID,
            "operator": grant.operator,
            "target": target,
            "nonce": secrets.token_bytes(16),
            "issued_ms": now,
            "expires_ms": now + 30_000,
        }
        return Ticket(**{**values, **changes})

    def ask(self, ticket: Ticket) -> str:
        """The Master asks for a connection; the paper."""
        token = self.signer.sign_ticket(ticket, self.authority)
        self.relay.waiting[ticket.nonce] = asyncio.get_running_loop().create_future()
        self.tunnels.dial_asked(token)
        return token

    async def refused(self, ticket: Ticket) -> TunnelEnd | None:
        """Ask for a connection that does not come about; why."""
        self.ask(ticket)
        return (await self.report(ticket)).end

    @contextlib.asynccontextmanager
    async def connected(
        self, grant: Grant, target: Target
    ) -> AsyncIterator[tuple[socket.socket, asyncio.Task[EndReport]]]:
        """The operator's socket of a connection, and its end."""
        ticket = self.ticket(grant, target)
        self.ask(ticket)
        async with within(30), asyncio.TaskGroup() as tasks:
            port = await self.relay.waiting[ticket.nonce]
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            end = SocketEnd(
                theirs,
                port,
                side=Side.OPERATOR,
                budget=Budget(),
                peer_window=FIRST_WINDOW,
                limits=EndLimits(close_s=0.5),
            )
            running = tasks.create_task(_run(end, port))
            try:
                yield ours, running
            finally:
                ours.close()

    async def report(self, paper: Grant | Ticket) -> TunnelReport:
        """What is said next about a tunnel or a connection."""
        nonce = paper.nonce if isinstance(paper, Ticket) else b""

        def look() -> TunnelReport | None:
            for said in self.said:
                if isinstance(said, TunnelReport) and (said.tunnel_id, said.nonce) == (paper.tunnel, nonce):
                    self.said.remove(said)
                    return said
            return None

        return await eventually(look, f"a report about {paper.tunnel}")

    def log(self, name: str = "tunnels") -> list[dict[str, Any]]:
        """What is in the log."""
        return list(read_log(self.data, name))


async def _run(end: SocketEnd, port: Pipe) -> EndReport:
    """To the end, which the other side sees."""
    try:
        return await end.run()
    finally:
        port.end()


async def no_master() -> frozenset[Address]:
    """It has no address here."""
    return frozenset()


@contextlib.asynccontextmanager
async def running_site(folder: Path, policy: str = "", dialler: Dialler | None = None) -> AsyncIterator[Site]:
    """A Tenant in Active with its tunnels."""
    now = time.time_ns() // 1_000_000
    authority = AuthorityFolder(folder / "pki").create(DOMAIN, now)
    data = private_directory(folder / "data")
    write_private(data / "trust.pem", authority.root_pem)
    said: list[FromDaemon] = []
    warnings: list[str] = []
    conduct: dict[str, Any] = {"state": TenantState.ACTIVE, "changed": asyncio.Event(), "linked": True}

    def send(message: FromDaemon) -> bool:
        if conduct["linked"]:
            said.append(message)
        return bool(conduct["linked"])

    async def changed() -> None:
        await conduct["changed"].wait()

    async def warn(text: str) -> None:
        warnings.append(text)

    file = folder / "tunnels.toml"
    if policy:
        file.write_text(policy)
    around = Surroundings(GUID, data, lambda: conduct["state"], changed, lambda: conduct["linked"], send, no_master)
    relay, console = FakeRelay(), FakeConsole()
    connecting = Connecting(around, dialler or Dialler(), relay, console)
    tunnels = Tunnels(around, WatchedPolicy(PolicyFile(file), warn), Proving(data, DOMAIN), connecting, relay, console)
    signer = TunnelSigner(load_tunnel_key(folder / "pki"), DOMAIN)
    site = Site(data, authority, signer, relay, console, tunnels, said, warnings, file, conduct)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(tunnels.run())
        try:
            yield site
        finally:
            serving.cancel()
    assert relay.streams == 0


def read_recording(path: Path) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """The first line, and what passed."""
    head, _, rest = path.read_bytes().partition(b"\n")
    parts = []
    while rest:
        length = int.from_bytes(rest[9:13], "big")
        parts.append((rest[:1].decode(), rest[13 : 13 + length]))
        rest = rest[13 + length :]
    return json.loads(head), parts
