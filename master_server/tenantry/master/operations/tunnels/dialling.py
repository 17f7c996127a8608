"""The way to a connection: an operator's stream asks, the Tenant is sent a ticket, and its stream comes with the ticket's nonce.

A nonce joins once, one stream of the Tenant whose ticket it was in with the stream that waits for it.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.operations.throttling import TokenBuckets
from tenantry.master.operations.tunnels import accounts
from tenantry.master.operations.tunnels.accounts import TunnelAccounts
from tenantry.master.operations.tunnels.book import TunnelBook, TunnelObserver
from tenantry.master.operations.tunnels.live import Connection, LiveTunnel
from tenantry.protocol.failures import (
    TenantNotConnected,
    TunnelClosed,
    TunnelKeyRefused,
    TunnelNotAllowed,
    TunnelsTooMany,
    TunnelTicketRefused,
)
from tenantry.protocol.messages import TunnelDial, TunnelReport
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.papers import LIFETIME_MS, NONCE_BYTES, Ticket
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.protocol.tunnels.targets import Target

LINK_S: Final = 10.0
"""So long a dial waits for a link that is away."""
ANSWER_S: Final = 40.0
"""So long a dial waits for the Tenant: for the ticket's life, and a little more."""

SignTicket = Callable[[Ticket], str]
S = TypeVar("S")
"""A stream, as whoever reads and writes it knows it."""


class _Waiting(Generic[S]):
    """A dial that waits for the Tenant's stream."""

    __slots__ = ("answered", "connection", "stream")

    def __init__(self, connection: Connection, stream: S) -> None:
        self.connection = connection
        self.stream = stream
        self.answered: asyncio.Future[S] = asyncio.get_running_loop().create_future()

    def fail(self, end: TunnelEnd, detail: str) -> None:
        """It comes to nothing."""
        connection = self.connection
        if not self.answered.done():
            self.answered.set_exception(failure_of_end(end, detail, connection.tunnel.guid, connection.target))


class Dials(Protocol):
    """What a link tells about dials."""

    def report(self, link: LinkSession, report: TunnelReport) -> None:
        """A daemon says that a dial came to nothing."""

    def link_began(self, link: LinkSession) -> None:
        """Dials that waited for this link go on."""


class Switchboard(Generic[S]):
    """Joins streams. Lives on the event loop."""

    def __init__(
        self,
        book: TunnelBook,
        links: LinkDirectory,
        account: TunnelAccounts,
        clocks: Clocks,
        sign: SignTicket,
        observer: TunnelObserver,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._book = book
        self._links = links
        self._account = account
        self._clocks = clocks
        self._sign = sign
        self._observer = observer
        self._random_bytes = random_bytes
        self._waiting: dict[bytes, _Waiting[S]] = {}
        limits = book.limits
        self._dials = TokenBuckets(limits.dials, per_minute=60.0 * limits.dials)
        self._linked: dict[int, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        """How many dials wait for their Tenant."""
        return len(self._waiting)

    def tunnel_for(self, tunnel_id: str, key: str) -> LiveTunnel:
        """The tunnel that this key opens. Raises TunnelKeyRefused, which never tells whether there is one."""
        tunnel = self._book.get(tunnel_id)
        if tunnel is None or not tunnel.opens_with(key) or not tunnel.is_open:
            raise TunnelKeyRefused
        return tunnel

    async def dial(self, tunnel: LiveTunnel, target: Target, stream: S) -> tuple[Connection, S]:
        """Ask the Tenant for a connection; the connection, and the Tenant's stream.

        Raises TunnelNotAllowed, TunnelsTooMany, TenantNotConnected, TunnelClosed, and what `failure_of_end` gives.
        """
        if not tunnel.covers(target):
            raise TunnelNotAllowed(end=TunnelEnd.POLICY.value, cause="the tunnel does not lead there")
        self._check_room(tunnel)
        connection = Connection(tunnel, target, self._random_bytes(NONCE_BYTES))
        tunnel.connections.add(connection)
        waiting = _Waiting(connection, stream)
        connection.watch(lambda: waiting.fail(connection.end or TunnelEnd.RESET, connection.detail))
        try:
            link = await self._link_to(tunnel, waiting)
            self._waiting[connection.nonce] = waiting
            link.push(TunnelDial(self._sign(self._ticket(connection))))
            if tunnel.is_new(target):
                self._account.note(accounts.led_to(tunnel.actor, tunnel.facts, target, self._clocks.wall_ms()))
            async with asyncio.timeout(ANSWER_S):
                return connection, await waiting.answered
        except TimeoutError:
            connection.finish(TunnelEnd.NO_ANSWER)
            raise TenantNotConnected(tenant=tunnel.guid) from None
        except BaseException:
            connection.finish(TunnelEnd.RESET)
            raise
        finally:
            self._waiting.pop(connection.nonce, None)
            if not connection.joined:
                self._observer.dial_failed(connection.end or TunnelEnd.RESET)
                if waiting.answered.done() and not waiting.answered.cancelled():
                    waiting.answered.exception()  # whoever waited may have gone before

    def answer(self, guid: str, nonce: bytes, not_after_ms: int, stream: S) -> tuple[Connection, S]:
        """A Tenant's stream comes with a nonce, which counts once: the connection, and the operator's stream.

        ``guid``: whose certificate it shows; ``not_after_ms``: when that ends. Raises TunnelTicketRefused.
        """
        waiting = self._waiting.get(nonce)
        if waiting is None or waiting.connection.tunnel.guid != guid or waiting.answered.done():
            # The nonce of another Tenant stays good for that one.
            raise TunnelTicketRefused(cause="nobody waits for it")
        del self._waiting[nonce]
        connection = waiting.connection
        connection.joined = True
        connection.not_after_ms = not_after_ms
        tunnel = connection.tunnel
        tunnel.opened += 1
        tunnel.active_ms = self._clocks.steady_ms()
        self._observer.connection_joined()
        waiting.answered.set_result(stream)
        return connection, waiting.stream

    def report(self, link: LinkSession, report: TunnelReport) -> None:
        """A daemon says that a dial came to nothing."""
        waiting = self._waiting.get(report.nonce)
        if waiting is None or waiting.connection.tunnel.facts.tenant_id != link.tenant_id:
            return
        connection = waiting.connection
        del self._waiting[report.nonce]
        waiting.fail(report.end or TunnelEnd.NO_ANSWER, report.detail)
        connection.finish(report.end or TunnelEnd.NO_ANSWER, report.detail)

    def link_began(self, link: LinkSession) -> None:
        """Dials that waited for this link go on."""
        for waiter in self._linked.pop(link.tenant_id, set()):
            if not waiter.done():
                waiter.set_result(None)

    def _check_room(self, tunnel: LiveTunnel) -> None:
        limits, tenant_id = self._book.limits, tunnel.facts.tenant_id
        if len(tunnel.connections) >= limits.connections:
            raise TunnelsTooMany(limit=f"{limits.connections} connections through one tunnel")
        if sum(len(one.connections) for one in self._book.at(tenant_id)) >= limits.connections_per_tenant:
            raise TunnelsTooMany(limit=f"{limits.connections_per_tenant} connections to one Tenant")
        now_ms = self._clocks.steady_ms()
        if self._dials.wait_ms(tunnel.guid, now_ms):
            raise TunnelsTooMany(limit=f"{limits.dials} dials a second at one Tenant")
        self._dials.take(tunnel.guid, now_ms)

    async def _link_to(self, tunnel: LiveTunnel, waiting: _Waiting[S]) -> LinkSession:
        """The Tenant's link, for which the dial waits a moment. Raises TenantNotConnected, and what ends the connection meanwhile."""
        tenant_id = tunnel.facts.tenant_id
        link = self._links.get(tenant_id)
        if link is None or not link.confirmed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._linked.setdefault(tenant_id, set()).add(waiter)
            try:
                await asyncio.wait((waiter, waiting.answered), timeout=LINK_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
                waiters = self._linked.get(tenant_id)
                if waiters is not None:
                    waiters.discard(waiter)
                    if not waiters:
                        del self._linked[tenant_id]
            if waiting.answered.done():
                waiting.answered.result()
            link = self._links.get(tenant_id)
        if link is None or not link.confirmed:
            raise TenantNotConnected(tenant=tunnel.guid)
        if not tunnel.is_open:
            raise TunnelClosed(end=(tunnel.facts.end or TunnelEnd.RESET).value, detail=tunnel.facts.end_detail)
        return link

    def _ticket(self, connection: Connection) -> Ticket:
        facts: Tunnel = connection.tunnel.facts
        now_ms = self._clocks.wall_ms()
        return Ticket(
            tunnel=facts.id,
            tenant=connection.tunnel.guid,
            operator=facts.operator,
            target=connection.target,
            nonce=connection.nonce,
            issued_ms=now_ms,
            expires_ms=now_ms + LIFETIME_MS,
        )
