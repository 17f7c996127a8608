"""One connection on the event loop: from the socket through TLS and HTTP/2 to its calls, and back."""

import asyncio
import random
import ssl
from typing import Final, Protocol, cast

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2 import limits
from tenantry.master.http2.calls import Call
from tenantry.master.http2.connection import (
    CallOpened,
    Connection,
    ConnectionOver,
    Drained,
    Event,
    InputEnded,
    MessageReceived,
)
from tenantry.master.http2.frames import ErrorCode
from tenantry.master.http2.limits import Limits
from tenantry.master.http2.tls import PORTION, ServerTls, TlsFailed, TlsOver

_RECEIVED: Final = memoryview(bytearray(65_536))
"""Where every connection is read into: it is empty again before the next one is read."""
_PLAIN: Final = memoryview(bytearray(65_536 + 2 * 16_384))
"""The same for what was decrypted; a record that was waiting for its end comes on top."""
_MOST_BEFORE_TLS: Final = 65_536
"""Bytes of one who has shown no certificate."""
_CLOSE_S: Final = 5.0


class Host(Protocol):
    """What a connection asks of the server that it belongs to."""

    limits: Limits
    loop: asyncio.AbstractEventLoop

    def context(self) -> ssl.SSLContext:
        """TLS for a handshake that begins."""

    def admit(self, peer: "Peer") -> bool:
        """Whether there is room for one more."""

    def forget(self, peer: "Peer") -> None:
        """The connection has ended."""

    def shake_soon(self, peer: "Peer") -> None:
        """Let its handshake go on when its turn has come."""

    def flush_soon(self, peer: "Peer") -> None:
        """Call `Peer.flush` in this turn of the loop."""

    def begin(self, call: Call) -> None:
        """Serve a call."""

    def note_end(self, end: ConnectionEnd, peer: str, cause: str) -> None:
        """A connection was ended because of what its peer did."""


class Peer(asyncio.BufferedProtocol):
    """One connection and its peer."""

    __slots__ = (
        "_begun",
        "_calls",
        "_closing",
        "_connection",
        "_early",
        "_heard",
        "_host",
        "_idle_since",
        "_longest",
        "_pinged",
        "_resumed",
        "_shaking",
        "_stalled",
        "_tls",
        "_transport",
        "dirty",
        "due",
        "peer",
        "queued",
    )

    def __init__(self, host: Host) -> None:
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._tls: ServerTls | None = None
        self._connection: Connection | None = None
        self._calls: dict[int, Call] = {}
        self._begun = self._heard = self._idle_since = host.loop.time()
        self._pinged: float | None = None
        self._stalled: tuple[tuple[int, int], float] | None = None
        """What has been taken when, while something waits."""
        # Not all that came at once after a restart shall go at once.
        self._longest = limits.AGE_S * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing
        self._closing: float | None = None
        self._shaking = False
        self._early = b""
        """What has come while a thread was busy with the handshake."""
        self._resumed: asyncio.Future[None] | None = None
        self.due = self._begun + limits.HANDSHAKE_S
        """When `look` is to be called."""
        self.peer = "unknown"
        self.dirty = False
        """Whether its turn to be flushed has been asked for."""
        self.queued = False
        """Whether it waits for its turn to shake hands."""

    # --- what the event loop calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket was accepted."""
        self._transport = opened = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        self.peer = _address(opened.get_extra_info("peername"))
        if not self._host.admit(self):
            self._host.note_end(ConnectionEnd.CROWDED, self.peer, "too many connections")
            opened.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._closing is not None:
            return
        tls, connection = self._tls, self._connection
        if tls is None:
            tls = self._tls = ServerTls(self._host.context())
        if connection is not None:
            self._take(tls, connection, nbytes)
            return
        if tls.waiting + len(self._early) + nbytes > _MOST_BEFORE_TLS:
            self._end(ConnectionEnd.TLS, "too much before a certificate")
        elif self._shaking:
            self._early += _RECEIVED[:nbytes]
        else:
            tls.put(_RECEIVED[:nbytes])
            self._host.shake_soon(self)

    def eof_received(self) -> bool:
        """The peer's socket is closed: so is ours."""
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """The socket is gone."""
        self._closing = self._closing or self._host.loop.time()
        self._transport = None
        self._let_go()
        self._host.forget(self)
        self._connection = None

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._resumed = self._host.loop.create_future()

    def resume_writing(self) -> None:
        """It takes more again."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    # --- TLS --------------------------------------------------------------------------------------------------------------

    def to_shake(self) -> ServerTls | None:
        """What `ServerTls.shake_hands` is to be called on, in whatever thread; None when there is nothing to do any more.

        Until `shaken` is called nothing else touches it.
        """
        self.queued = False
        if self._transport is None or self._closing is not None or self._connection is not None:
            return None
        self._shaking = True
        return self._tls

    def shaken(self, done: bool | TlsFailed) -> None:
        """The handshake has gone on: whether it is done, or how it has failed."""
        self._shaking = False
        transport, tls = self._transport, self._tls
        if transport is None or tls is None or self._closing is not None:
            return
        transport.write(tls.take())
        if isinstance(done, TlsFailed):
            self._end(ConnectionEnd.TLS, str(done))
            return
        early, self._early = self._early, b""
        if early:
            tls.put(early)
        if done:
            self._heard = self._idle_since = self._host.loop.time()
            self.due = self._heard + limits.KEEPALIVE_S
            self._connection = Connection(self._host.limits, self._heard)
            self._take(tls, self._connection, 0)
        elif early:
            self._host.shake_soon(self)

    def certificate(self) -> bytes | None:
        """The peer's certificate, PEM."""
        der = None if self._tls is None else self._tls.peer_certificate()
        return None if der is None else ssl.DER_cert_to_PEM_cert(der).encode("ascii")

    def _take(self, tls: ServerTls, connection: Connection, count: int) -> None:
        """Decrypt and work through what has come: ``count`` bytes in the buffer, and what TLS still holds."""
        over, size = False, 0
        try:
            if count <= PORTION:
                tls.put(_RECEIVED[:count])
                size = tls.read_into(_PLAIN)
            else:
                for start in range(0, count, PORTION):
                    tls.put(_RECEIVED[start : min(start + PORTION, count)])
                    size += tls.read_into(_PLAIN[size:])
        except TlsOver:
            over = True
        except TlsFailed as failed:
            self._end(ConnectionEnd.TLS, str(failed))
            return
        if size:
            now = self._heard = self._host.loop.time()
            self._pinged = None
            for event in connection.receive(_PLAIN[:size], now):
                self._happen(connection, event)
        if over:
            self.close()
        elif connection.outgoing and not self.dirty:
            self.flush()

    # --- what comes of it -------------------------------------------------------------------------------------------------

    def _happen(self, connection: Connection, event: Event) -> None:
        if isinstance(event, CallOpened):
            self._begin(connection, event)
            return
        if isinstance(event, ConnectionOver):
            self._end(event.end, event.cause)
            return
        call = self._calls.get(event.stream)
        if call is None:
            return
        if isinstance(event, MessageReceived):
            call.deliver(event.message)
        elif isinstance(event, InputEnded):
            call.hear_out()
        elif isinstance(event, Drained):
            call.drain()
        else:
            call.leave()

    def _begin(self, connection: Connection, event: CallOpened) -> None:
        if len(self._calls) >= self._host.limits.streams:
            connection.reset(event.stream, ErrorCode.REFUSED_STREAM)
            return
        call = self._calls[event.stream] = Call(self, event.stream, event.head)
        self._host.begin(call)

    def over(self, stream: int) -> None:
        """The handler of a call has ended."""
        self._calls.pop(stream, None)
        if not self._calls:
            self._idle_since = self._host.loop.time()

    # --- what calls ask ---------------------------------------------------------------------------------------------------

    def send(self, stream: int, message: bytes) -> bool:
        """Send a message; False while a part of it waits, until the call is told that it is drained."""
        connection = self._connection
        if connection is None:
            return True
        sent = connection.send(stream, message)
        self._flush_soon()
        return sent

    def taken(self, stream: int, size: int) -> None:
        """A message of this size has been taken."""
        connection = self._connection
        if connection is not None:
            connection.taken(stream, size)
            if connection.outgoing:
                self._flush_soon()

    def end(self, stream: int, block: bytes) -> None:
        """End the call with these trailers."""
        if self._connection is not None:
            self._connection.end(stream, block)
            self._flush_soon()

    async def writable(self) -> None:
        """Return when the socket takes more."""
        while self._resumed is not None:
            await asyncio.shield(self._resumed)

    def _flush_soon(self) -> None:
        if not self.dirty:
            self.dirty = True
            self._host.flush_soon(self)

    def flush(self) -> None:
        """Send what is to be sent."""
        self.dirty = False
        connection, tls, transport = self._connection, self._tls, self._transport
        if connection is None or tls is None or transport is None or not connection.outgoing:
            return
        try:
            data = tls.write(connection.take())
        except TlsFailed as failed:
            self._end(ConnectionEnd.TLS, str(failed))
            return
        transport.write(data)

    # --- ends -------------------------------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """Ask the peer to begin its next calls elsewhere."""
        if self._connection is not None:
            self._connection.go_away()
            self.flush()

    def close(self) -> None:
        """End the connection; what is to be sent is sent before."""
        transport, tls = self._transport, self._tls
        if transport is None or self._closing is not None:
            return
        self._closing = self._host.loop.time()
        self.due = self._closing + _CLOSE_S
        if self._connection is not None and tls is not None:
            self._connection.go_away()
            self.flush()
            transport.write(tls.close())
        self._let_go()
        transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._closing = self._closing or self._host.loop.time()
            self._transport.abort()

    def _end(self, end: ConnectionEnd, cause: str) -> None:
        """The peer has done what ends a connection."""
        self._host.note_end(end, self.peer, cause)
        self.close()

    def _let_go(self) -> None:
        for call in list(self._calls.values()):
            call.leave()
        if self._resumed is not None:
            self.resume_writing()

    @property
    def has_calls(self) -> bool:
        """Whether a handler is still at work."""
        return bool(self._calls)

    def look(self, now: float) -> None:
        """What time alone makes necessary; and when to look again."""
        self.due = now + limits.KEEPALIVE_S
        connection = self._connection
        if self._closing is not None:
            self.due = self._closing + _CLOSE_S
            if now >= self.due:
                self.abort()
        elif connection is None or not connection.greeted:
            self.due = self._begun + limits.HANDSHAKE_S
            if now >= self.due:
                self._end(ConnectionEnd.SLOW, "no handshake in time")
        elif self._pinged is not None and now - self._pinged >= limits.PING_S:
            self._host.note_end(ConnectionEnd.SILENT, self.peer, "no answer to a ping")
            self.abort()
        else:
            self._look_after(connection, now)

    def _look_after(self, connection: Connection, now: float) -> None:
        if self._pinged is None and now - self._heard >= limits.KEEPALIVE_S:
            self._pinged = now
            connection.ping()
            self.flush()
        self.due = self._heard + limits.KEEPALIVE_S if self._pinged is None else self._pinged + limits.PING_S
        age = now - self._begun
        idle = not self._calls and now - self._idle_since >= limits.IDLE_S
        if idle or age >= self._longest + limits.AGE_GRACE_S:
            self.close()
        elif age >= self._longest and not connection.going:
            self.go_away()
        self._look_at_progress(connection, now)

    def _look_at_progress(self, connection: Connection, now: float) -> None:
        """End it when something waits, and the peer has taken nothing for long."""
        transport = self._transport
        if transport is None or (self._resumed is None and not connection.stuck):
            self._stalled = None
            return
        progress = connection.moved, transport.get_write_buffer_size()
        if self._stalled is None or self._stalled[0] != progress:
            self._stalled = progress, now
        elif now - self._stalled[1] >= limits.STALL_S:
            self._host.note_end(ConnectionEnd.STALLED, self.peer, "nothing is taken")
            self.abort()


def _address(name: object) -> str:
    if not isinstance(name, tuple):
        return "unknown"
    host, port = name[0], name[1]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
