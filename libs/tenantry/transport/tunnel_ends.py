"""One end of a connection through a tunnel: between a socket and a stream of frames. Both ends' programs share it.

Everything that is decided is in `tenantry.protocol.tunnels.connection`; here are the socket, the stream and the clock. Data waits in
the socket until the stream takes it: nothing is read ahead, so that what came meanwhile goes out in one large frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import ConnectionEnd, EndLimits
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import (
    MAX_DATA,
    MAX_HEAD,
    Data,
    decode_frame,
    encode_frame,
    head_of_data,
    payload_of,
)
from tenantry.protocol.tunnels.sharing import Sharing, Talker
from tenantry.protocol.tunnels.watch import Side
from tenantry.transport.resets import reset_at_close

_SMALL: Final = 16 * 1024
"""Pieces that wait for the socket are put together up to this size: many tiny ones would weigh far more than their bytes."""
_RESET_WAIT_S: Final = 5.0
"""How long a reset may take to reach the Master before the stream is cut."""


class StreamPort(Protocol):
    """A stream of frames, as raw messages."""

    async def read(self) -> bytes | None:
        """The next message; None at the end of the stream, whatever ended it."""

    async def write(self, message: bytes) -> None:
        """Send a message, when the stream has room for it. Does nothing once the stream is over."""


class Flow(Enum):
    """The two directions of a connection."""

    UP = "from the operator to the target"
    DOWN = "from the target to the operator"


Observer = Callable[[Flow, memoryview], None]


@dataclass(frozen=True, slots=True)
class EndReport:
    """How a connection ended, and how many bytes of payload this end passed on: up is from the operator to the target."""

    end: TunnelEnd
    detail: str
    bytes_up: int
    bytes_down: int


class _Shared(threading.local):
    """What the connections of a thread share: they are on one way, and one of them runs at a time.

    Sockets are read into one place, because a frame is copied out of it before anything else runs.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(MAX_HEAD + MAX_DATA))
        self.sharing = Sharing()


_shared: Final = _Shared()


class SocketEnd:
    """Between a connected, non-blocking socket, which belongs to it from then on, and a stream."""

    def __init__(
        self,
        sock: socket.socket,
        port: StreamPort,
        *,
        side: Side,
        budget: Budget,
        peer_window: int | None = None,
        own_window: int = FIRST_WINDOW,
        limits: EndLimits | None = None,
        observe: Observer | None = None,
    ) -> None:
        """``peer_window`` None: `joined` is still to come on the stream; a little is sent ahead of it. Takes a running loop."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._port = port
        self._limits = limits if limits is not None else EndLimits()
        self._core = ConnectionEnd(
            self._loop.time(), budget=budget, own_window=own_window, peer_window=peer_window, limits=self._limits
        )
        self._talker = Talker(_shared.sharing)
        self._in, self._out = (Flow.DOWN, Flow.UP) if side is Side.OPERATOR else (Flow.UP, Flow.DOWN)
        self._observe = observe
        self._backlog: deque[memoryview | bytearray] = deque()
        self._reading = self._writing = False  # whether the loop watches the socket
        self._wakeup: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._shut = self._closed = self._stream_over = False
        self._closing: asyncio.TimerHandle | None = None

    @property
    def bytes_up(self) -> int:
        """Payload from the operator so far."""
        return self._core.sent_bytes if self._out is Flow.UP else self._core.received

    @property
    def bytes_down(self) -> int:
        """Payload from the target so far."""
        return self._core.sent_bytes if self._out is Flow.DOWN else self._core.received

    def reset(self, end: TunnelEnd, detail: str = "") -> None:
        """End the connection now, from outside of `run`: both sides see a reset."""
        self._core.close(end, detail)
        self._settle()

    async def run(self) -> EndReport:
        """Pass on until both directions are over or the connection is reset, and close the socket. Ordinary ends raise nothing."""
        with contextlib.suppress(OSError):  # a socket of another kind has no such delay
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._take_frames()), group.create_task(self._send_frames())]
                self._arm()
                await self._over
                for task in tasks:
                    task.cancel()
        finally:
            self._close()
        reset = self._core.reset
        end, detail = (TunnelEnd.FINISHED, "") if reset is None else (reset.end, reset.detail)
        return EndReport(end, detail, self.bytes_up, self.bytes_down)

    # --- from the stream to the socket ------------------------------------------------------------------------------------

    async def _take_frames(self) -> None:
        core, read, time, passed = self._core, self._port.read, self._loop.time, self._talker.passed
        while (message := await read()) is not None:
            try:
                payload = payload_of(message)
                if payload is None:
                    frame = decode_frame(message)
                    core.receive(frame, time())
                    if isinstance(frame, Data):
                        payload = frame.payload
                else:
                    now = time()
                    core.receive_data(len(payload), now)
                    passed(len(payload), now)
            except TunnelProtocolViolated as violation:
                core.close(TunnelEnd.PROTOCOL, violation.metadata["problem"])
                payload = None
            if payload is None:
                self._arm()
                self._settle()
            elif core.reset is None:
                self._deliver(payload)
                if core.pending:
                    self._wake()
        self._stream_over = True
        core.stream_ended()
        self._settle()

    def _deliver(self, payload: memoryview) -> None:
        if self._observe is not None:
            self._observe(self._in, payload)
        if not self._backlog:
            taken = self._write(payload)
            if taken == len(payload):
                return
            payload = payload[taken:]
        last = self._backlog[-1] if self._backlog else None
        if isinstance(last, bytearray) and len(last) + len(payload) <= _SMALL:
            last += payload
        else:
            self._backlog.append(bytearray(payload) if len(payload) < _SMALL else payload)
        self._watch_writing()

    def _write(self, payload: memoryview | bytearray) -> int:
        """How many bytes the socket has taken."""
        try:
            taken = self._sock.send(payload)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._core.close(TunnelEnd.RESET, _words(error))
            self._settle()
            return 0
        self._core.delivered(taken, self._loop.time())
        return taken

    def _writable(self) -> None:
        while self._backlog:
            first = self._backlog[0]
            taken = self._write(first)
            if taken < len(first):
                if taken:
                    self._backlog[0] = memoryview(first)[taken:]
                break
            self._backlog.popleft()
        if self._core.reset is None and not self._backlog:
            self._loop.remove_writer(self._fd)
            self._writing = False
        self._settle()

    def _watch_writing(self) -> None:
        if not self._writing and self._core.reset is None:
            self._writing = True
            self._loop.add_writer(self._fd, self._writable)

    # --- from the socket to the stream ------------------------------------------------------------------------------------

    async def _send_frames(self) -> None:
        core, write = self._core, self._port.write
        while True:
            if (frame := core.next_frame()) is not None:
                await write(encode_frame(frame))
            elif (message := self._read()) is not None:
                await write(message)
            elif not core.pending:
                if core.sendable:
                    self._watch_reading()
                self._wakeup = self._loop.create_future()
                await self._wakeup

    def _read(self) -> bytes | None:
        """What the socket has, as a data frame; None for nothing, or where nothing more may be sent."""
        core, now = self._core, self._loop.time()
        room = min(core.sendable, self._talker.largest(now))
        if not room:
            return None
        view = _shared.view
        try:
            count = self._sock.recv_into(view[MAX_HEAD:], room)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            core.close(TunnelEnd.RESET, _words(error))
            self._settle()
            return None
        if not count:
            core.local_eof(now)
            self._arm()
            self._settle()
            return None
        core.sent(count, now)
        self._talker.passed(count, now)
        head = head_of_data(count)
        begin = MAX_HEAD - len(head)
        view[begin:MAX_HEAD] = head
        if self._observe is not None:
            self._observe(self._out, view[MAX_HEAD : MAX_HEAD + count])
        return bytes(view[begin : MAX_HEAD + count])

    def _readable(self) -> None:
        if self._wakeup is not None and self._core.sendable:
            self._wake()
        else:  # what came while nobody can take it is reported once, not for ever
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _watch_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    # --- both -------------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)

    def _settle(self) -> None:
        """Do what follows from how the connection stands now."""
        core = self._core
        if core.over:
            self._close_socket()
            if self._stream_over:
                self._finish()
            elif self._closing is None:
                wait_s = self._limits.close_s if core.reset is None else _RESET_WAIT_S
                self._closing = self._loop.call_later(wait_s, self._finish)
        elif core.write_over and not self._shut:
            self._shut = True
            with contextlib.suppress(OSError):  # it may be gone
                self._sock.shutdown(socket.SHUT_WR)
        self._wake()

    def _arm(self) -> None:
        """Come again when the next time may be over. Bytes move it away; only how far the connection is brings it nearer."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._core.deadline()
        self._timer = self._loop.call_at(deadline, self._tick) if deadline is not None else None

    def _tick(self) -> None:
        if self._core.tick(self._loop.time()):
            self._settle()
        self._arm()

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _close(self) -> None:
        for timer in (self._timer, self._closing):
            if timer is not None:
                timer.cancel()
        self._close_socket()
        self._talker.close()
        self._core.release()

    def _close_socket(self) -> None:
        """What was not said in order to the end is a reset."""
        if self._closed:
            return
        self._closed = True
        if self._reading:
            self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        if not self._core.over or self._core.reset is not None:
            reset_at_close(self._sock)
        self._sock.close()
        self._backlog.clear()


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
