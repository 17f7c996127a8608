"""`TunnelRelayService`: two streams for each connection, joined and copied between. Data is passed on as the bytes that came, unless
they are more around it than in it (`domain/waiting_frames.py`).

Each stream is read by its call's own task, always, and written by a second one; between them is a queue that holds no more than the
sender was told that it may send. gRPC cannot end a call while a message is being written to it, and a write that is given up goes on
all the same: so nothing ends a write but its peer, and what ends a connection interrupts reading only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.certificates import USABLE
from tenantry.master.domain.passages import Passage, Room, too_much
from tenantry.master.domain.waiting_frames import WaitingFrames
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkDirectory, Wake
from tenantry.master.operations.opening import Caller
from tenantry.master.operations.tunnels.dialling import Switchboard
from tenantry.master.operations.tunnels.live import Connection
from tenantry.master.rpc.callers import CALLER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import CertificateRevoked, TunnelProtocolViolated, TunnelsTooMany
from tenantry.protocol.tunnels.budget import Budget
from tenantry.protocol.tunnels.connection import check_window
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import Credit, Joined, Reset, decode_frame, encode_frame
from tenantry.protocol.tunnels.papers import NONCE_BYTES
from tenantry.protocol.tunnels.targets import make_target
from tenantry.protocol.tunnels.watch import RelayWatch, Side
from tenantry.v1 import tunnel_relay_service_pb2 as pb

BEGIN_S: Final = 10.0
"""So long a stream may take to say what it is."""
MOST_BEGIN: Final = 4 << 10
"""Bytes of a stream's first message: of somebody who has not said yet who he is."""
STREAMS_BEGINNING: Final = 8
"""So many streams of one connection are read at a time that have not said yet what they are."""
STUCK_S: Final = 5.0
MOST_STUCK: Final = 32
"""Streams of one peer that do not take for so long what is written to them although their connection is over: more make dials fail."""
TENANT_ROOM: Final = 32 << 20
ALL_ROOM: Final = 256 << 20
"""What the windows of connections may grow by, at one Tenant and at all together, in bytes."""
MOST_WAITING: Final = 512 << 20
"""So many bytes may wait of all connections together; when there are more, some are ended."""
LOOKED_AT_EACH: Final = 16 << 20
"""That is looked at whenever so many bytes have come."""


class RelayStream:
    """One stream of a connection. What the other one says waits in its queue."""

    __slots__ = (
        "_interrupted",
        "_reading",
        "_task",
        "context",
        "passage",
        "peer",
        "queue",
        "side",
        "told",
        "wake",
        "watch",
        "window",
    )

    def __init__(self, context: Context, side: Side, window: int, peer: Hashable) -> None:
        """``window``: what this end takes before it allows more; ``peer``: who it is, for counting."""
        self.context = context
        self.side = side
        self.window = window
        self.peer = peer
        self.queue = WaitingFrames()
        """What is to be written to this end."""
        self.passage: Passage | None = None
        """What comes from this end."""
        self.watch: RelayWatch | None = None
        """What is checked of the whole connection; comes with the Tenant's stream."""
        self.told = False
        """Whether this end knows that the connection is reset, or is about to be told."""
        self.wake = Wake()
        """Something is to be written, or the connection is over."""
        self._task = asyncio.current_task()
        self._reading = False
        self._interrupted = False

    def put(self, message: bytes, count: int = 0) -> None:
        """Write this to the end, behind what is to be written already."""
        self.queue.put(message, count)
        self.wake.set()

    def interrupt(self) -> None:
        """The connection is over: end `read` where it waits."""
        self.wake.set()
        if self._reading:
            # Cancelled at once, or as soon as it goes on: in both cases where it reads.
            self._interrupted = True
            if self._task is not None:
                self._task.cancel()

    async def read(self, connection: Connection) -> bytes | None:
        """What this end says next; None when it says nothing more, or when the connection is over."""
        if connection.is_over:
            return None
        self._reading = True
        try:
            message = await self.context.read()
        except asyncio.CancelledError:
            if not self._interrupted or self._task is None or self._task.uncancel() > 0:
                raise
            return None
        finally:
            self._reading = False
        return None if message is grpc.aio.EOF or connection.is_over else message


class _Turns:
    """Streams of one connection that are read for the first time: how many may, and how many there are."""

    __slots__ = ("free", "users")

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(STREAMS_BEGINNING)
        self.users = 0


class TunnelRelay:
    """Serves `Dial` on the listener `tunnels` and `Answer` on the listener `relay`."""

    def __init__(
        self, switchboard: Switchboard[RelayStream], links: LinkDirectory, reader: StoreReader, clocks: Clocks
    ) -> None:
        self._switchboard = switchboard
        self._links = links
        self._reader = reader
        self._clocks = clocks
        self._closing: dict[Hashable, dict[RelayStream, int]] = {}
        """Streams whose connection is over, by their peer, with the time since when (steady ms)."""
        self._together = Budget(ALL_ROOM)
        self._rooms: dict[str, Budget] = {}
        self._turns: dict[str, _Turns] = {}
        self._carried: dict[Connection, tuple[str, Passage, Passage]] = {}
        """The connections that are joined, each with its Tenant and its two directions."""
        self._come = 0

    async def dial(self, _requests: object, context: Context) -> None:
        """The operator's stream of a connection."""
        begin = _dial_begin(await self._first(context))
        tunnel = self._switchboard.tunnel_for(begin.tunnel_id, begin.key)
        target = make_target(begin.target.host, begin.target.port)
        operator = ("operator", tunnel.viewer.user_id)
        self._check_stuck(operator, ("tenant", tunnel.guid))
        own = RelayStream(context, Side.OPERATOR, check_window(begin.window), operator)
        connection, other = await self._switchboard.dial(tunnel, target, own)
        await self._carry(connection, own, other)

    async def answer(self, _requests: object, context: Context) -> None:
        """The Tenant's stream of a connection."""
        caller = CALLER.get()
        begin = _answer_begin(await self._first(context))
        await self._check(caller)
        own = RelayStream(context, Side.TENANT, check_window(begin.window), ("tenant", caller.guid))
        connection, other = self._switchboard.answer(caller.guid, begin.nonce, caller.not_after_ms, own)
        own.watch = other.watch = RelayWatch()
        budget = self._rooms.setdefault(caller.guid, Budget(TENANT_ROOM))
        own.passage, other.passage = [
            Passage(window, Room(budget, self._together)) for window in (other.window, own.window)
        ]
        self._carried[connection] = caller.guid, own.passage, other.passage
        try:
            await self._carry(connection, own, other)
        finally:
            del self._carried[connection]
            own.passage.close()
            other.passage.close()
            if budget.left == budget.total:
                self._rooms.pop(caller.guid, None)

    async def _first(self, context: Context) -> bytes:
        """The first message of a stream; only some streams of a connection are read at a time before they have said who they are."""
        peer = str(context.peer())
        turns = self._turns.setdefault(peer, _Turns())
        turns.users += 1
        try:
            async with asyncio.timeout(BEGIN_S), turns.free:
                message = await context.read()
        except TimeoutError:
            raise TunnelProtocolViolated(problem=f"no begin within {BEGIN_S:g} s") from None
        finally:
            turns.users -= 1
            if not turns.users:
                self._turns.pop(peer, None)
        if message is grpc.aio.EOF:
            raise TunnelProtocolViolated(problem="a stream without a begin")
        found: bytes = message
        if len(found) > MOST_BEGIN:
            raise TunnelProtocolViolated(problem=f"a begin of more than {MOST_BEGIN} bytes")
        return found

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

    def _check_stuck(self, *peers: Hashable) -> None:
        """Raises TunnelsTooMany."""
        before_ms = self._clocks.steady_ms() - int(STUCK_S * 1000)
        for peer in peers:
            if sum(since_ms < before_ms for since_ms in self._closing.get(peer, {}).values()) >= MOST_STUCK:
                raise TunnelsTooMany(limit=f"{MOST_STUCK} connections whose end takes nothing")

    async def _carry(self, connection: Connection, own: RelayStream, other: RelayStream) -> None:
        """Pass on what this end says until the connection is over, and write to it what the other one says."""
        connection.watch(lambda: _interrupt(connection, own))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(connection, own, other))
                await self._read(connection, own, other)
                connection.finish(TunnelEnd.RESET, "an end has gone")
                self._closing.setdefault(own.peer, {})[own] = self._clocks.steady_ms()
        finally:
            # Whoever cancels this task (gRPC, when the peer goes) ends the connection.
            connection.finish(TunnelEnd.RESET, "an end has gone")
            closing = self._closing.get(own.peer)
            if closing is not None:
                closing.pop(own, None)
                if not closing:
                    del self._closing[own.peer]

    async def _read(self, connection: Connection, own: RelayStream, other: RelayStream) -> None:
        watch, passage, side, put = own.watch, own.passage, own.side, other.put
        if watch is None or passage is None:
            raise TypeError("the Tenant's stream brings what is checked")
        try:
            while (message := await own.read(connection)) is not None:
                count = watch.take(side, message)
                if count:
                    passage.receive(count)
                    put(message, count)
                    self._look(count)
                    del message  # an end may be silent for long, with its last message in hand
                else:
                    _pass_on(connection, own, other, message)
                    if watch.finished:
                        connection.finish(TunnelEnd.FINISHED)
        except TunnelProtocolViolated as failure:
            connection.finish(TunnelEnd.PROTOCOL, failure.metadata.get("problem", ""))

    def _look(self, count: int) -> None:
        """So many bytes have come: end connections where too much waits of all."""
        self._come += count
        if self._come < LOOKED_AT_EACH:
            return
        self._come = 0
        waiting = {
            one: (guid, up.held + down.held) for one, (guid, up, down) in self._carried.items() if not one.is_over
        }
        for one in too_much(waiting, MOST_WAITING):
            one.finish(TunnelEnd.RESET, "too much waits at the Master that nobody takes")

    async def _write(self, connection: Connection, own: RelayStream, other: RelayStream) -> None:
        passage, back = other.passage, own.passage
        if passage is None or back is None:
            raise TypeError("the Tenant's stream brings what is checked")
        tunnel, up, queue, write = connection.tunnel, own.side is Side.TENANT, own.queue, own.context.write
        steady_ms = self._clocks.steady_ms
        try:
            await write(encode_frame(Joined(back.told)))
            while True:
                if connection.is_over and connection.end is not TunnelEnd.FINISHED:
                    break
                if credit := back.credit():
                    await write(encode_frame(Credit(credit)))
                elif queue:
                    message, count = queue.take()
                    await write(message)
                    if count:
                        passage.passed(count)
                        other.wake.set()
                        tunnel.active_ms = steady_ms()
                        if up:
                            tunnel.bytes_up += count
                        else:
                            tunnel.bytes_down += count
                    del message
                elif connection.is_over:
                    return
                else:
                    await own.wake.wait()
            if not own.told:
                await write(encode_frame(Reset(connection.end or TunnelEnd.RESET, connection.detail)))
        except grpc.aio.InternalError:
            connection.finish(TunnelEnd.RESET, "an end has gone")


def _interrupt(connection: Connection, own: RelayStream) -> None:
    """The connection is over. What waits is dropped at once: an end that takes nothing may hold its writer up for long."""
    if connection.end is not TunnelEnd.FINISHED:
        own.queue.clear()
    own.interrupt()


def _pass_on(connection: Connection, own: RelayStream, other: RelayStream, message: bytes) -> None:
    """A frame without data, which was checked."""
    match decode_frame(message):
        case Credit(count):
            if other.passage is not None:
                other.passage.allow(count)
            other.wake.set()
        case Reset(end, detail):
            own.told = True
            connection.finish(TunnelEnd.RESET if end is TunnelEnd.FINISHED else end, detail)
        case _:
            other.put(message)


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
