"""Which streams are joined, over all orders in which dials, answers, reports and ends can come. No gRPC, no store."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.master.domain.access import Access
from tenantry.master.domain.people import TokenKind
from tenantry.master.domain.records import NewRecord
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.tunnels.book import TunnelBook, TunnelLimits
from tenantry.master.operations.tunnels.dialling import Switchboard
from tenantry.master.operations.tunnels.live import LiveTunnel
from tenantry.master.operations.viewers import Viewer
from tenantry.protocol.failures import Failure, TunnelsTooMany, TunnelTicketRefused
from tenantry.protocol.messages import TunnelDial, TunnelReport
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import Ticket
from tenantry.protocol.tunnels.targets import Target

TENANTS = 3
TARGET = Target("127.0.0.1", 22)
LIMITS = TunnelLimits(16, 100, 100, 100, 1_000, 1_000_000, 1_000_000)


@dataclass
class FakeLink:
    """A link of a Tenant: what was pushed to it."""

    tenant_id: int
    pushed: list[Any] = field(default_factory=list)
    confirmed: bool = True
    takes_tunnels: bool = True
    failure: Failure | None = None

    def push(self, message: Any) -> None:
        """Keep it."""
        self.pushed.append(message)


class Observer:
    """Counts nothing."""

    def tunnel_opened(self) -> None: ...
    def tunnel_ended(self, end: TunnelEnd) -> None: ...
    def connection_joined(self) -> None: ...
    def dial_failed(self, end: TunnelEnd) -> None: ...
    def bytes_relayed(self, up: int, down: int) -> None: ...


class Accounts:
    """Keeps what would be written down."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []

    def note(self, record: NewRecord) -> None:
        """A record."""
        self.records.append(record)

    def close(self, _tunnel: Tunnel, record: NewRecord, written: Callable[[], None]) -> None:
        """An end, which is durable at once."""
        self.records.append(record)
        written()


@dataclass(frozen=True)
class Stream:
    """One end of a connection: whose it is, and of which dial or answer."""

    owner: str
    number: int


class House:
    """Tenants with a link and a tunnel each, and who joins their streams."""

    def __init__(self, limits: TunnelLimits = LIMITS) -> None:
        self.now_ms = 0
        self.links = {number: FakeLink(number) for number in range(1, TENANTS + 1)}
        self.accounts = Accounts()
        clocks = Clocks(lambda: self.now_ms, lambda: self.now_ms)
        links: Any = self.links
        accounts: Any = self.accounts
        self.book = TunnelBook(links, accounts, clocks, limits, Observer())
        self.tickets: list[Ticket] = []
        self._nonces = iter(range(1 << 20))
        self.board: Switchboard[Stream] = Switchboard(
            self.book,
            links,
            accounts,
            clocks,
            self._sign,
            Observer(),
            lambda size: next(self._nonces).to_bytes(size, "big"),
        )
        self.tunnels = {number: self._tunnel(number) for number in self.links}

    def _sign(self, ticket: Ticket) -> str:
        self.tickets.append(ticket)
        return "ticket"

    def _tunnel(self, tenant_id: int) -> LiveTunnel:
        viewer = Viewer("t", "t", TokenKind.SESSION, 1, "ada", Access())
        facts = Tunnel(
            f"tunnel-{tenant_id}",
            tenant_id,
            "ada",
            1,
            "",
            (),
            "",
            TunnelState.OPEN,
            0,
            1_000_000,
            1_000_000,
            opened_ms=0,
        )
        tunnel = LiveTunnel(facts, guid_of(tenant_id), viewer, Actor("operator", "ada"), "key", 0)
        self.book.admit(tunnel)
        return tunnel


def guid_of(tenant_id: int) -> str:
    """The GUID of a Tenant."""
    return f"guid-{tenant_id}"


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("dial", "answer", "answer", "answer", "report", "give up", "end", "rest")),
        st.integers(1, TENANTS),
        st.integers(0, 7),
    ),
    max_size=30,
)


async def play(steps: Sequence[Step]) -> list[tuple[Stream, Stream, int]]:
    """Everything that was joined: the operator's stream, the Tenant's, and the ticket's number; each as both ends saw it."""
    house = House()
    joined: list[tuple[Stream, Stream, int]] = []
    dials: list[asyncio.Task[None]] = []

    async def dial(tenant_id: int, number: int) -> None:
        own = Stream(guid_of(tenant_id), number)
        try:
            connection, other = await house.board.dial(house.tunnels[tenant_id], TARGET, own)
        except (Failure, asyncio.CancelledError):
            return
        assert connection.tunnel is house.tunnels[tenant_id]
        joined.append((own, other, int.from_bytes(connection.nonce, "big")))

    async with asyncio.TaskGroup() as group:
        for place, (verb, tenant_id, which) in enumerate(steps):
            ticket = house.tickets[which] if which < len(house.tickets) else None
            if verb == "dial":
                dials.append(group.create_task(dial(tenant_id, place)))
            elif verb == "answer" and ticket is not None:
                own = Stream(guid_of(tenant_id), place)
                try:
                    connection, other = house.board.answer(guid_of(tenant_id), ticket.nonce, 1, own)
                except TunnelTicketRefused:
                    continue
                assert other.owner == own.owner == ticket.tenant
                joined.append((other, own, int.from_bytes(connection.nonce, "big")))
            elif verb == "report" and ticket is not None:
                link: Any = house.links[tenant_id]
                report = TunnelReport(
                    ticket.tunnel, TunnelState.CLOSED, nonce=ticket.nonce, end=TunnelEnd.TARGET_REFUSED
                )
                house.board.report(link, report)
            elif verb == "give up" and which < len(dials):
                dials[which].cancel()
            elif verb == "end":
                house.book.end(house.tunnels[tenant_id], TunnelEnd.BY_ADMINISTRATOR)
            else:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        for tunnel in house.tunnels.values():
            house.book.end(tunnel, TunnelEnd.MASTER_STOPPED)
    assert len(house.board) == 0, "a dial that waits for ever"
    assert house.book.connections == 0, "a connection that never ends"
    return joined


def check(joined: Sequence[tuple[Stream, Stream, int]]) -> None:
    """What must hold whatever happened."""
    by_nonce: dict[int, set[tuple[Stream, Stream]]] = {}
    for operator, tenant, nonce in joined:
        assert operator.owner == tenant.owner, "a stream of one Tenant was joined to a dial to another"
        by_nonce.setdefault(nonce, set()).add((operator, tenant))
    for pairs in by_nonce.values():
        assert len(pairs) == 1, "a ticket joined twice"
    for one in ("operator", "tenant"):
        ends = [pair[one == "tenant"] for pairs in by_nonce.values() for pair in pairs]
        assert len(ends) == len(set(ends)), "a stream in two connections"


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_f36_no_order_of_events_joins_streams_of_two_tenants_or_one_ticket_twice(steps: list[Step]) -> None:
    """Dials, answers with whatever nonce by whomever, reports, ends and cancellations, in every order."""
    check(asyncio.run(play(steps)))


def test_the_property_bites_when_a_ticket_can_be_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded bug: who answers is not struck off the list of those who are waited for."""
    honest = Switchboard.answer

    def reusable(self: Any, guid: str, nonce: bytes, not_after_ms: int, stream: Any) -> Any:
        waiting = self._waiting.get(nonce)
        if waiting is not None and waiting.answered.done() and not waiting.answered.cancelled():
            return waiting.connection, waiting.stream
        answer = honest(self, guid, nonce, not_after_ms, stream)
        self._waiting[nonce] = waiting
        return answer

    monkeypatch.setattr(Switchboard, "answer", reusable)
    steps = [("dial", 1, 0), ("rest", 1, 0), ("answer", 1, 0), ("answer", 1, 0)]
    with pytest.raises((AssertionError, ExceptionGroup)):
        check(asyncio.run(play(steps)))


def test_the_property_bites_when_whose_certificate_it_is_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded bug: a nonce is enough."""
    honest = Switchboard.answer

    def careless(self: Any, guid: str, nonce: bytes, not_after_ms: int, stream: Any) -> Any:
        waiting = self._waiting.get(nonce)
        owner = guid if waiting is None else waiting.connection.tunnel.guid
        return honest(self, owner, nonce, not_after_ms, stream)

    monkeypatch.setattr(Switchboard, "answer", careless)
    steps = [("dial", 1, 0), ("rest", 1, 0), ("answer", 2, 0)]
    with pytest.raises((AssertionError, ExceptionGroup)):
        check(asyncio.run(play(steps)))


async def test_dials_are_bounded_by_the_second() -> None:
    """At one Tenant; others have a bound of their own, and a second later there is room again."""
    house = House(TunnelLimits(16, 100, 100, 100, 3, 1_000_000, 1_000_000))

    async def dial(tenant_id: int) -> None:
        await house.board.dial(house.tunnels[tenant_id], TARGET, Stream("x", 0))

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(dial(1)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TunnelsTooMany):
            await dial(1)
        waiting.append(group.create_task(dial(2)))
        house.now_ms += 1_000
        waiting.append(group.create_task(dial(1)))
        await asyncio.sleep(0)
        assert len(house.tickets) == 5
        assert all(isinstance(one, TunnelDial) for one in house.links[1].pushed)
        for one in waiting:
            one.cancel()


def test_what_a_link_says_about_tunnels_of_another_tenant_is_ignored() -> None:
    """A report, and which ones it holds."""
    house = House()
    stranger: Any = house.links[2]
    tunnel = house.tunnels[1]
    house.book.report(stranger, TunnelReport(tunnel.id, TunnelState.CLOSED, end=TunnelEnd.BY_TENANT))
    house.book.reconcile(stranger, ())
    assert not tunnel.is_over


def test_a_tunnel_whose_tenant_is_away_ends_only_when_nothing_goes_through_it() -> None:
    """A minute after the link went."""
    house = House()
    link: Any = house.links[1]
    house.book.link_ended(link)
    house.now_ms = 59_999
    house.book.look()
    assert not house.tunnels[1].is_over
    house.now_ms = 60_000
    house.book.look()
    assert house.tunnels[1].facts.end is TunnelEnd.LINK_LOST
    assert not house.tunnels[2].is_over
