"""`TunnelRelayService`: two streams for each connection, joined and copied between. Messages are passed on as the bytes that came.

The task of a stream writes to that stream alone, and reads from the other one. gRPC cannot end a call while a message is being
written to it, and a write that is given up goes on all the same: so nothing ends a write but its peer, and what ends a connection
interrupts reading only.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.certificates import USABLE
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.opening import Caller
from tenantry.master.operations.tunnels.dialling import Switchboard
from tenantry.master.operations.tunnels.live import Connection
from tenantry.master.rpc.callers import CALLER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import CertificateRevoked, TunnelProtocolViolated, TunnelsTooMany
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import Joined, Reset, encode_frame
from tenantry.protocol.tunnels.papers import NONCE_BYTES
from tenantry.protocol.tunnels.targets import make_target
from tenantry.protocol.tunnels.watch import RelayWatch, Side, check_window
from tenantry.v1 import tunnel_relay_service_pb2 as pb

BEGIN_S: Final = 10.0
"""So long a stream may take to say what it is."""
MOST_STUCK: Final = 32
"""Streams of one peer that do not take what is written to them although their connection is over: more make further dials fail."""


class RelayStream:
    """One stream of a connection, as the task that serves it and the task of the other stream use it."""

    __slots__ = ("_interrupted", "_reading", "_task", "context", "peer", "reset", "side", "watch", "window", "writing")

    def __init__(self, context: Context, side: Side, window: int, peer: Hashable) -> None:
        """``window``: what this end takes before it allows more; ``peer``: who it is, for counting."""
        self.context = context
        self.side = side
        self.window = window
        self.peer = peer
        self.reset = False
        """Whether this end knows that the connection is reset."""
        self.watch: RelayWatch | None = None
        """What is checked of the whole connection; comes with the Tenant's stream."""
        self.writing = False
        self._task = asyncio.current_task()
        self._reading = False
        self._interrupted = False

    def interrupt(self) -> None:
        """End `read_of` of this stream's task where it waits."""
        if self._reading:
            # Cancelled at once, or as soon as it goes on: in both cases where it reads.
            self._interrupted = True
            if self._task is not None:
                self._task.cancel()

    async def read_of(self, other: "RelayStream", connection: Connection) -> bytes | None:
        """The next message of the other stream; None when there is none, or when the connection is over."""
        if connection.is_over:
            return None
        self._reading = True
        try:
            message = await other.context.read()
        except asyncio.CancelledError:
            if not self._interrupted or self._task is None or self._task.uncancel() > 0:
                raise
            return None
        except (grpc.aio.UsageError, grpc.aio.InternalError):
            return None
        finally:
            self._reading = False
        return None if message is grpc.aio.EOF or connection.is_over else message

    async def write(self, message: bytes) -> None:
        """Write to this stream."""
        self.writing = True
        await self.context.write(message)
        self.writing = False


class TunnelRelay:
    """Serves `Dial` on the listener `tunnels` and `Answer` on the listener `relay`."""

    def __init__(
        self, switchboard: Switchboard[RelayStream], links: LinkDirectory, reader: StoreReader, clocks: Clocks
    ) -> None:
        self._switchboard = switchboard
        self._links = links
        self._reader = reader
        self._clocks = clocks
        self._stuck: Counter[Hashable] = Counter()

    async def dial(self, _requests: object, context: Context) -> None:
        """The operator's stream of a connection."""
        begin = _dial_begin(await _first(context))
        tunnel = self._switchboard.tunnel_for(begin.tunnel_id, begin.key)
        target = make_target(begin.target.host, begin.target.port)
        operator, tenant = ("operator", tunnel.viewer.user_id), ("tenant", tunnel.guid)
        if max(self._stuck[operator], self._stuck[tenant]) >= MOST_STUCK:
            raise TunnelsTooMany(limit=f"{MOST_STUCK} connections whose end does not read")
        own = RelayStream(context, Side.OPERATOR, check_window(begin.window), operator)
        connection, other = await self._switchboard.dial(tunnel, target, own)
        if other.watch is None:
            raise TypeError("the Tenant's stream comes with what is watched")
        await self._carry(connection, own, other, other.watch)

    async def answer(self, _requests: object, context: Context) -> None:
        """The Tenant's stream of a connection."""
        caller = CALLER.get()
        begin = _answer_begin(await _first(context))
        await self._check(caller)
        own = RelayStream(context, Side.TENANT, check_window(begin.window), ("tenant", caller.guid))
        connection, other = self._switchboard.answer(caller.guid, begin.nonce, caller.not_after_ms, own)
        own.watch = RelayWatch(other.window, own.window)
        await self._carry(connection, own, other, own.watch)

    async def _check(self, caller: Caller) -> None:
        """Whether the certificate counts: the one of the Tenant's link does. Raises CertificateRevoked."""
        link = self._links.of_guid(caller.guid)
        if link is not None and link.confirmed and link.serial == caller.serial:
            return

        def usable(transaction: Transaction) -> bool:
            certificate = transaction.certificates.get(caller.serial)
            return certificate is not None and certificate.status in USABLE

        if not await self._reader.run(usable, EVERYTHING):
            raise CertificateRevoked(serial=caller.serial)

    async def _carry(self, connection: Connection, own: RelayStream, other: RelayStream, watch: RelayWatch) -> None:
        """Pass on what the other stream says until the connection is over, and say so to this end where it does not know."""
        connection.watch(own.interrupt)
        try:
            await own.write(encode_frame(Joined(other.window)))
            await self._copy(connection, own, other, watch)
            connection.finish(TunnelEnd.RESET, "an end has gone")
            if connection.end is not TunnelEnd.FINISHED and not own.reset:
                end = connection.end or TunnelEnd.RESET
                await own.write(encode_frame(Reset(end, connection.detail)))
        finally:
            # Whoever cancels this task (gRPC, when the peer goes) ends the connection.
            connection.finish(TunnelEnd.RESET, "an end has gone")

    async def _copy(self, connection: Connection, own: RelayStream, other: RelayStream, watch: RelayWatch) -> None:
        tunnel, side, up = connection.tunnel, other.side, other.side is Side.OPERATOR
        steady_ms = self._clocks.steady_ms
        while (message := await own.read_of(other, connection)) is not None:
            try:
                count = watch.take(side, message)
            except TunnelProtocolViolated as failure:
                connection.finish(TunnelEnd.PROTOCOL, failure.metadata.get("problem", ""))
                return
            await own.write(message)
            if count:
                tunnel.active_ms = steady_ms()
                if up:
                    tunnel.bytes_up += count
                else:
                    tunnel.bytes_down += count
            elif watch.reset is not None:
                own.reset = other.reset = True
                connection.finish(TunnelEnd.RESET, watch.reset.detail)
            elif watch.finished:
                connection.finish(TunnelEnd.FINISHED)


def add_dial(relay: TunnelRelay, server: grpc.aio.Server) -> None:
    """Serve operators' streams. Messages stay bytes: they are passed on as they came."""
    _add(server, "Dial", relay.dial)


def add_answer(relay: TunnelRelay, server: grpc.aio.Server) -> None:
    """Serve Tenants' streams, likewise."""
    _add(server, "Answer", relay.answer)


def _add(server: grpc.aio.Server, name: str, behaviour: Callable[[object, Context], Awaitable[None]]) -> None:
    handler: Any = grpc.stream_stream_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tenantry.v1.TunnelRelayService", {name: handler}),)
    )


async def _first(context: Context) -> bytes:
    try:
        async with asyncio.timeout(BEGIN_S):
            message = await context.read()
    except TimeoutError:
        raise TunnelProtocolViolated(problem=f"no begin within {BEGIN_S:g} s") from None
    if message is grpc.aio.EOF:
        raise TunnelProtocolViolated(problem="a stream without a begin")
    found: bytes = message
    return found


def _dial_begin(message: bytes) -> pb.DialBegin:
    try:
        request = pb.DialRequest.FromString(message)
    except DecodeError:
        raise TunnelProtocolViolated(problem="a message that cannot be read") from None
    if request.WhichOneof("message") != "begin":
        raise TunnelProtocolViolated(problem="the first message is no begin")
    return request.begin


def _answer_begin(message: bytes) -> pb.AnswerBegin:
    try:
        request = pb.AnswerRequest.FromString(message)
    except DecodeError:
        raise TunnelProtocolViolated(problem="a message that cannot be read") from None
    if request.WhichOneof("message") != "begin" or len(request.begin.nonce) != NONCE_BYTES:
        raise TunnelProtocolViolated(problem="the first message is no begin")
    return request.begin
