"""Both ends of a tunnel at the level of single messages: a Tenant that answers as it is told, and an operator's streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from tenantry.protocol.messages import TunnelClose, TunnelDial, TunnelOffer, TunnelReport, TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import GRANT_TYPE, TICKET_TYPE, Grant, Ticket, decode_grant, decode_ticket
from tenantry.transport.signed_tunnels import prove_paper
from tenantry.v1 import (
    tunnel_pb2,
    tunnel_relay_service_pb2,
    tunnel_relay_service_pb2_grpc,
    tunnel_service_pb2,
    tunnel_service_pb2_grpc,
)
from tests.servers.deadlines import within
from tests.servers.master import TRUST_DOMAIN, MasterProcess
from tests.servers.wire_tenant import Identity, WireLink, WireTenant, enrolled, move, open_link

WINDOW = 1 << 17
PATIENCE_S = 20.0
CONSOLE_TARGET = tunnel_pb2.TunnelTarget(host="127.0.0.1", port=22)


class WireStream:
    """One stream of a connection, at whichever end."""

    def __init__(self, call: Any, request: Any) -> None:
        self.call = call
        self._request = request

    async def say(self, **frame: Any) -> None:
        """Send one frame, named as in the contract."""
        await self.call.write(self._request(**frame))

    async def hear(self) -> Any:
        """The next message, or None at the end. Raises AioRpcError where the Master ended the stream with a status."""
        async with within(PATIENCE_S):
            answer = await self.call.read()
            if answer is not grpc.aio.EOF:
                return answer
            code = await self.call.code()
        if code is grpc.StatusCode.OK:
            return None
        raise grpc.aio.AioRpcError(
            code, await self.call.initial_metadata(), await self.call.trailing_metadata(), await self.call.details()
        )

    async def joined(self) -> int:
        """Wait for both ends; what the other one takes."""
        answer = await self.hear()
        assert answer is not None and answer.WhichOneof("message") == "joined", answer
        return int(answer.joined.window)

    async def data(self) -> bytes:
        """The next message, which must be data."""
        answer = await self.hear()
        assert answer is not None and answer.WhichOneof("message") == "data", answer
        return bytes(answer.data)

    async def reset(self) -> "tunnel_pb2.TunnelReset":
        """Drop messages until the reset."""
        while True:
            answer = await self.hear()
            assert answer is not None, "the stream ended without a reset"
            if answer.WhichOneof("message") == "reset":
                found: tunnel_pb2.TunnelReset = answer.reset
                return found

    def cancel(self) -> None:
        """End it as a program that dies does."""
        self.call.cancel()


@dataclass
class WireTunnelTenant:
    """A Tenant whose link is open and which takes tunnels. What the Master asks is kept; what is said to it is up to the test."""

    master: MasterProcess
    tenant: WireTenant
    link: WireLink
    relay: grpc.aio.Channel
    offers: "asyncio.Queue[Grant]" = field(default_factory=asyncio.Queue)
    tickets: "asyncio.Queue[Ticket]" = field(default_factory=asyncio.Queue)
    closed: "asyncio.Queue[TunnelClose]" = field(default_factory=asyncio.Queue)
    held: "asyncio.Queue[TunnelsHeld]" = field(default_factory=asyncio.Queue)
    master_holds: tuple[str, ...] = ()
    """What the Master said when the link was open."""
    agrees: bool = True
    """Whether it says OPEN to each offer by itself."""

    @property
    def guid(self) -> str:
        """The Tenant."""
        return self.tenant.identity.guid

    async def listen(self) -> None:
        """Take what the Master says until the link ends."""
        with contextlib.suppress(EOFError, grpc.aio.AioRpcError, asyncio.CancelledError):
            while True:
                match await self.link.read():
                    case TunnelOffer(grant=token, relay_port=port):
                        assert port
                        grant = decode_grant(prove_paper(token, GRANT_TYPE, self.master.roots, TRUST_DOMAIN))
                        self.offers.put_nowait(grant)
                        if self.agrees:
                            await self.report(grant.tunnel, TunnelState.OPEN)
                    case TunnelDial(ticket=token):
                        payload = prove_paper(token, TICKET_TYPE, self.master.roots, TRUST_DOMAIN)
                        self.tickets.put_nowait(decode_ticket(payload))
                    case TunnelClose() as close:
                        self.closed.put_nowait(close)
                    case TunnelsHeld() as held:
                        self.held.put_nowait(held)
                    case _:
                        pass

    async def report(self, tunnel_id: str, state: TunnelState, **more: Any) -> None:
        """Say how a tunnel stands."""
        await self.link.send(TunnelReport(tunnel_id, state=state, **more))

    async def ticket(self) -> Ticket:
        """The next ticket."""
        async with within(PATIENCE_S):
            return await self.tickets.get()

    async def answer(self, nonce: bytes, window: int = WINDOW) -> WireStream:
        """Come with a nonce."""
        call = tunnel_relay_service_pb2_grpc.TunnelRelayServiceStub(self.relay).Answer()
        stream = WireStream(call, tunnel_relay_service_pb2.AnswerRequest)
        await stream.say(begin=tunnel_relay_service_pb2.AnswerBegin(nonce=nonce, window=window))
        return stream

    async def refuse(self, ticket: Ticket, end: TunnelEnd, detail: str = "") -> None:
        """Say that a dial came to nothing."""
        await self.report(ticket.tunnel, TunnelState.CLOSED, nonce=ticket.nonce, end=end, detail=detail)


@contextlib.asynccontextmanager
async def tunnel_tenant(
    master: MasterProcess, name: str, *, agrees: bool = True, identity: Identity | None = None
) -> AsyncIterator[WireTunnelTenant]:
    """A Tenant in Maintenance whose link takes tunnels."""
    known = identity or await enrolled(master, name)
    async with open_tunnel_link(master, WireTenant(known), agrees=agrees) as tenant:
        yield tenant


@contextlib.asynccontextmanager
async def open_tunnel_link(
    master: MasterProcess, tenant: WireTenant, *, agrees: bool = True
) -> AsyncIterator[WireTunnelTenant]:
    """A link of a Tenant that there is, on connections of its own."""
    async with (
        open_link(master, tenant.identity) as link,
        master.relay_channel(tenant.identity.key, tenant.identity.chain) as relay,
    ):
        await link.open(tenant, takes_tunnels=True)
        there = WireTunnelTenant(master, tenant, link, relay, agrees=agrees)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(there.listen())
            try:
                async with within(PATIENCE_S):
                    there.master_holds = (await there.held.get()).tunnel_ids
                yield there
            finally:
                listening.cancel()


@dataclass
class WireTunnel:
    """A tunnel as its operator holds it."""

    call: Any
    dials: grpc.aio.Channel
    id: str
    key: str
    answers: list[tunnel_service_pb2.OpenTunnelResponse]

    async def dial(self, target: Any = CONSOLE_TARGET, window: int = WINDOW, key: str | None = None) -> WireStream:
        """Open a connection; does not wait for the other end."""
        call = tunnel_relay_service_pb2_grpc.TunnelRelayServiceStub(self.dials).Dial()
        stream = WireStream(call, tunnel_relay_service_pb2.DialRequest)
        begin = tunnel_relay_service_pb2.DialBegin(
            tunnel_id=self.id, key=self.key if key is None else key, target=target, window=window
        )
        await stream.say(begin=begin)
        return stream

    async def joined(self, tenant: WireTunnelTenant, target: Any = CONSOLE_TARGET) -> tuple[WireStream, WireStream]:
        """A connection that both ends know: the operator's stream and the Tenant's."""
        operator = await self.dial(target)
        there = await tenant.answer((await tenant.ticket()).nonce)
        await operator.joined()
        await there.joined()
        return operator, there

    async def over(self) -> grpc.aio.AioRpcError:
        """How the call ended."""
        try:
            async with within(PATIENCE_S):
                while (answer := await self.call.read()) is not grpc.aio.EOF:
                    self.answers.append(answer)
                code = await self.call.code()
        except grpc.aio.AioRpcError as error:
            return error
        return grpc.aio.AioRpcError(
            code, await self.call.initial_metadata(), await self.call.trailing_metadata(), await self.call.details()
        )


@contextlib.asynccontextmanager
async def asked_tunnel(
    master: MasterProcess, guid: str, *targets: Any, metadata: Any = None, **asked: Any
) -> AsyncIterator[Callable[[], Any]]:
    """OpenTunnel, of which the next answer can be read; cancelled at the end."""
    async with master.api_channel() as channel:
        request = tunnel_service_pb2.OpenTunnelRequest(tenant=guid, targets=targets, **asked)
        call = tunnel_service_pb2_grpc.TunnelServiceStub(channel).OpenTunnel(
            request, metadata=metadata or master.metadata
        )

        async def read() -> Any:
            async with within(PATIENCE_S):
                answer = await call.read()
            if answer is grpc.aio.EOF:
                raise grpc.aio.AioRpcError(
                    await call.code(),
                    await call.initial_metadata(),
                    await call.trailing_metadata(),
                    await call.details(),
                )
            return answer

        read.call = call  # type: ignore[attr-defined]
        try:
            yield read
        finally:
            call.cancel()


@contextlib.asynccontextmanager
async def opened_tunnel(
    master: MasterProcess, guid: str, *targets: Any, metadata: Any = None, **asked: Any
) -> AsyncIterator[WireTunnel]:
    """A tunnel to which the Tenant agrees. Closed at the end, by ending the call."""
    async with (
        asked_tunnel(master, guid, *targets, metadata=metadata, **asked) as read,
        master.tunnels_channel() as dials,
    ):
        answers = [await read()]
        while not answers[-1].key:
            answers.append(await read())
        last = answers[-1]
        yield WireTunnel(read.call, dials, last.tunnel.id, last.key, answers)  # type: ignore[attr-defined]


async def active_tunnel_tenant(master: MasterProcess, guid: str) -> None:
    """Move the Tenant to Active."""
    await move(master, guid, "Activate")
