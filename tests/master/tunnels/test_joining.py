"""Whoever comes in whatever order: a stream of a Tenant is joined with a dial to that Tenant, or with nothing."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.tunnels.book import TunnelLimits
from tenantry.master.operations.tunnels.dialling import Switchboard
from tenantry.master.operations.tunnels.live import Connection, LiveTunnel
from tenantry.protocol.failures import Failure, TunnelTicketRefused
from tenantry.protocol.messages import TunnelDial, TunnelReport
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import Ticket, decode_ticket, encode_ticket
from tenantry.protocol.tunnels.targets import Target

GUIDS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
TARGET = Target("db", 5432)
PATIENCE_S = 20.0
Move = tuple[str, int, int]


@dataclass(frozen=True)
class Stream:
    """Anybody's stream; ``place`` is the Tenant that it is for, or of."""

    kind: str
    place: int
    number: int


class Scene:
    """Two Tenants with a tunnel each, dials through them, and streams that come with any nonce that was ever sent to anybody."""

    def __init__(self, group: asyncio.TaskGroup, kind: type[Switchboard[Stream]]) -> None:
        self.tunnels = [_tunnel(place) for place in range(2)]
        self.links = [SimpleNamespace(tenant_id=place, confirmed=True, push=self._pushed) for place in range(2)]
        self.tickets: list[Ticket] = []
        self.dials: list[asyncio.Task[None]] = []
        self.operators: list[tuple[Stream, Stream]] = []
        self.tenants: list[tuple[Stream, Stream, bytes]] = []
        self._group = group
        chance = random.Random(1)
        book: Any = SimpleNamespace(
            limits=TunnelLimits(10, 10, 1_000, 1_000, 100_000, 0, 0), at=lambda place: [self.tunnels[place]]
        )
        links: Any = SimpleNamespace(get=lambda place: self.links[place])
        silent: Any = SimpleNamespace(note=_ignore, dial_failed=_ignore, connection_joined=_ignore)
        self.board = kind(
            book,
            links,
            silent,
            Clocks(lambda: 0, lambda: 0),
            lambda one: encode_ticket(one).hex(),
            silent,
            chance.randbytes,
        )

    def _pushed(self, message: TunnelDial) -> None:
        self.tickets.append(decode_ticket(bytes.fromhex(message.ticket)))

    async def play(self, moves: list[Move]) -> None:
        """What happens, in this order; between two moves the loop turns a few times, or not at all."""
        for number, (what, place, which) in enumerate(moves):
            if what == "dial":
                self.dials.append(self._group.create_task(self._dial(Stream("operator", place, number))))
            elif what == "answer":
                self._answer(Stream("tenant", place, number), self._nonce(which))
            elif what == "report":
                report = TunnelReport(GUIDS[place], TunnelState.CLOSED, self._nonce(which), TunnelEnd.TARGET_REFUSED)
                link: Any = self.links[place]
                self.board.report(link, report)
            elif what == "give up" and self.dials:
                self.dials[which % len(self.dials)].cancel()
            elif what == "end":
                for connection in list(self.tunnels[place].connections):
                    connection.finish(TunnelEnd.BY_TENANT)
            elif what == "turn":
                for _ in range(which):
                    await asyncio.sleep(0)
        for dial in self.dials:
            dial.cancel()

    def check(self) -> None:
        """Nothing was joined across Tenants, twice, or with a nonce of another ticket."""
        owners = {ticket.nonce: GUIDS.index(ticket.tenant) for ticket in self.tickets}
        for tenant, operator, nonce in self.tenants:
            assert tenant.place == operator.place == owners[nonce], "streams of two Tenants were joined"
        assert max(Counter(nonce for *_, nonce in self.tenants).values(), default=0) <= 1, "a ticket counted twice"
        assert max(Counter(operator for _, operator, _ in self.tenants).values(), default=0) <= 1
        for operator, tenant in self.operators:
            assert (tenant, operator) in [(one, other) for one, other, _ in self.tenants]
        assert len(self.board) == 0 and not any(tunnel.connections for tunnel in self.tunnels), (
            "something waits for ever"
        )

    def _nonce(self, which: int) -> bytes:
        return self.tickets[which % len(self.tickets)].nonce if self.tickets else bytes(16)

    async def _dial(self, stream: Stream) -> None:
        try:
            connection, other = await self.board.dial(self.tunnels[stream.place], TARGET, stream)
        except Failure:
            return
        self.operators.append((stream, other))
        connection.finish(TunnelEnd.FINISHED)

    def _answer(self, stream: Stream, nonce: bytes) -> None:
        try:
            connection, other = self.board.answer(GUIDS[stream.place], nonce, 0, stream)
        except TunnelTicketRefused:
            return
        self.tenants.append((stream, other, nonce))
        if connection.end is not None or len(self.tenants) % 2:  # a Tenant's stream may end first, too
            connection.finish(TunnelEnd.FINISHED)


def _tunnel(place: int) -> LiveTunnel:
    viewer: Any = SimpleNamespace(user_id=1)
    actor: Any = SimpleNamespace()
    facts = Tunnel(GUIDS[place], place, "ada", 1, "", (TARGET,), "", TunnelState.OPEN, 0, 1, 0)
    return LiveTunnel(facts, GUIDS[place], viewer, actor, "key", 0)


def _ignore(*_: object) -> None:
    """Nobody listens."""


async def scene(moves: list[Move], kind: type[Switchboard[Stream]] = Switchboard) -> None:
    """Play and check."""
    async with asyncio.timeout(PATIENCE_S):
        async with asyncio.TaskGroup() as group:
            one = Scene(group, kind)
            await one.play(moves)
        for tunnel in one.tunnels:
            for connection in list(tunnel.connections):
                connection.finish(TunnelEnd.FINISHED)
        one.check()


_MOVES = st.lists(
    st.tuples(
        st.sampled_from(["dial", "dial", "answer", "answer", "answer", "report", "give up", "end", "turn", "turn"]),
        st.integers(0, 1),
        st.integers(0, 7),
    ),
    max_size=40,
)


@given(_MOVES)
def test_a_tunnel_of_one_tenant_is_never_joined_with_a_stream_of_another(moves: list[Move]) -> None:
    """Whatever was dialled, answered with whose certificate, reported, given up or ended, and in whatever order."""
    asyncio.run(scene(moves))


class AnyTenant(Switchboard[Stream]):
    """Seeded bug: whose certificate a stream shows is not looked at."""

    def answer(self, guid: str, nonce: bytes, not_after_ms: int, stream: Stream) -> tuple[Connection, Stream]:
        waiting = self._waiting.get(nonce)
        return super().answer(waiting.connection.tunnel.guid if waiting else guid, nonce, not_after_ms, stream)


class UsedAgain(Switchboard[Stream]):
    """Seeded bug: a ticket counts as often as it is shown."""

    def answer(self, guid: str, nonce: bytes, not_after_ms: int, stream: Stream) -> tuple[Connection, Stream]:
        waiting = self._waiting.get(nonce)
        try:
            joined = super().answer(guid, nonce, not_after_ms, stream)
        except TunnelTicketRefused:
            if waiting is None or waiting.connection.tunnel.guid != guid:
                raise
            joined = waiting.connection, waiting.stream
        if waiting is not None:
            self._waiting[nonce] = waiting
        return joined


@pytest.mark.parametrize("bug", [AnyTenant, UsedAgain])
def test_seeded_bugs_are_caught(bug: type[Switchboard[Stream]]) -> None:
    """Each within some dozen orders."""
    caught = 0
    for seed in range(60):
        chance = random.Random(seed)
        moves = [
            (chance.choice(["dial", "answer", "answer", "turn"]), chance.randrange(2), chance.randrange(8))
            for _ in range(40)
        ]
        try:
            asyncio.run(scene(moves, bug))
        except AssertionError:
            caught += 1
    assert caught
