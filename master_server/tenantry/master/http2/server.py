"""The server: its port, its connections and their calls, from the first to the last."""

import asyncio
import contextlib
import resource
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2.calls import Call
from tenantry.master.http2.limits import LIMITS, Limits
from tenantry.master.http2.peers import Peer
from tenantry.master.http2.tls import MutualTls, TlsFailed

LOOK_S: Final = 0.25
"""How often time is looked at; pings of many connections are spread over as many turns."""
TURN_S: Final = 0.01
"""How long handshakes are worked on before others get their turn: thousands come after a restart, a millisecond each."""
BACKLOG: Final = 4_096
SPARE_DESCRIPTORS: Final = 512
"""For everything but connections."""

log = structlog.get_logger()

Handlers = grpc.GenericRpcHandler


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata: Any) -> None:
        self.method = method
        self.invocation_metadata = metadata


class Server:
    """Serves handlers of gRPC's kind."""

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        tls: MutualTls,
        note_end: Callable[[ConnectionEnd, str, str], None],
        *,
        threads: int = 0,
        limits: Limits = LIMITS,
    ) -> None:
        """``note_end`` is told which connections were ended because of what their peer did: how, whose, and why in words.

        ``threads`` do handshakes, whose arithmetic needs no interpreter; 0: the loop does them.
        """
        self._threads = threads
        self._shakers: ThreadPoolExecutor | None = None
        self._at_work = 0
        self.limits = limits
        self.note_end = note_end
        self.loop = asyncio.get_running_loop()
        self._tls = tls
        self._interceptors = tuple(interceptors)
        self._handlers: list[Handlers] = []
        self._sockets: list[socket.socket] = []
        self._listening: list[asyncio.Server] = []
        self._peers: set[Peer] = set()
        self._shaking: deque[Peer] = deque()
        self._dirty: list[Peer] = []
        self._group = asyncio.TaskGroup()
        self._quiet = asyncio.Event()
        self._stopping = False
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most_connections = max(64, files - SPARE_DESCRIPTORS)

    # --- before it serves -------------------------------------------------------------------------------------------------

    def add_generic_rpc_handlers(self, handlers: Sequence[Handlers]) -> None:
        """Serve these too."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Generated code says here once more what it has said to `add_generic_rpc_handlers`."""

    def bind(self, host: str, port: int) -> int:
        """Take the address; the port. Raises OSError."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if port == 0 and self._sockets:
                address = (address[0], self._sockets[0].getsockname()[1], *address[2:])
            self._sockets.append(_listener(family, kind, protocol, address))
        return int(self._sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._peers)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the block ends; `stop` before that for an end with grace."""
        async with self._group:
            looking = self._group.create_task(self._look())
            for one in self._sockets:
                self._listening.append(await self.loop.create_server(lambda: Peer(self), sock=one, backlog=BACKLOG))
            if self._threads:
                self._shakers = ThreadPoolExecutor(self._threads, "handshakes")
            try:
                yield
            finally:
                shakers, self._shakers, self._threads = self._shakers, None, 0
                if shakers is not None:
                    shakers.shutdown(cancel_futures=True)
                await self.stop(0.0)
                looking.cancel()

    async def stop(self, grace_s: float) -> None:
        """Begin nothing new; end when all calls have ended, or after the grace."""
        self._stopping = True
        for one in self._listening:
            one.close()
        for peer in list(self._peers):
            peer.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while any(peer.has_calls for peer in self._peers):
                    self._quiet.clear()
                    await self._quiet.wait()
        for peer in list(self._peers):
            peer.close()

    # --- what connections ask ---------------------------------------------------------------------------------------------

    def context(self) -> ssl.SSLContext:
        """TLS for a handshake that begins."""
        return self._tls.context

    def admit(self, peer: Peer) -> bool:
        """Whether there is room for one more."""
        if self._stopping or len(self._peers) >= self.most_connections:
            return False
        self._peers.add(peer)
        return True

    def forget(self, peer: Peer) -> None:
        """The connection has ended."""
        self._peers.discard(peer)
        self._quiet.set()

    def shake_soon(self, peer: Peer) -> None:
        """Give it its turn to shake hands."""
        if not peer.queued:
            peer.queued = True
            if not self._shaking:
                self.loop.call_soon(self._shake)
            self._shaking.append(peer)

    def _shake(self) -> None:
        if self._shakers is not None:
            self._shake_in_threads(self._shakers)
            return
        end = time.monotonic() + TURN_S
        while self._shaking:
            peer = self._shaking.popleft()
            tls = peer.to_shake()
            if tls is not None:
                peer.shaken(tls.try_to_shake_hands())
            if time.monotonic() > end:
                break
        if self._shaking:
            self.loop.call_soon(self._shake)

    def _shake_in_threads(self, shakers: ThreadPoolExecutor) -> None:
        while self._shaking and self._at_work < self._threads:
            peer = self._shaking.popleft()
            tls = peer.to_shake()
            if tls is not None:
                self._at_work += 1
                step = self.loop.run_in_executor(shakers, tls.try_to_shake_hands)
                step.add_done_callback(partial(self._shaken, peer))

    def _shaken(self, peer: Peer, step: "asyncio.Future[bool | TlsFailed]") -> None:
        self._at_work -= 1
        if not step.cancelled():
            peer.shaken(step.result())
        self._shake()

    def flush_soon(self, peer: Peer) -> None:
        """Let it send before the loop looks at sockets again."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(peer)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for peer in dirty:
            peer.flush()

    def begin(self, call: Call) -> None:
        """Serve a call."""
        call.task = self._group.create_task(self._serve(call))

    # --- one call ---------------------------------------------------------------------------------------------------------

    async def _serve(self, call: Call) -> None:
        timer = None
        if call.timeout_s is not None:
            timer = self.loop.call_later(call.timeout_s, call.expire)
        try:
            handler = await self._find(call)
            if handler is None:
                call.finish(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
            else:
                await call.serve(handler)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            call.finish(grpc.StatusCode.CANCELLED, "the call was cancelled")
        except Exception as error:
            log.error("call failed outside of the gate", method=call.method, exc_info=error)
            call.finish(grpc.StatusCode.UNKNOWN, "an internal fault")
        finally:
            if timer is not None:
                timer.cancel()
            call.over()
            self._quiet.set()

    async def _find(self, call: Call) -> Any:
        async def last(details: grpc.HandlerCallDetails) -> Any:
            for handlers in self._handlers:
                found = handlers.service(details)
                if found is not None:
                    return found
            return None

        ask: Callable[[grpc.HandlerCallDetails], Awaitable[Any]] = last
        for interceptor in reversed(self._interceptors):
            ask = _behind(interceptor, ask)
        return await ask(_Details(call.method, call.invocation_metadata()))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now = self.loop.time()
            for peer in [one for one in self._peers if one.due <= now]:
                peer.look(now)


def _behind(
    interceptor: grpc.aio.ServerInterceptor, ask: Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
) -> Callable[[grpc.HandlerCallDetails], Awaitable[Any]]:
    async def asked(details: grpc.HandlerCallDetails) -> Any:
        return await interceptor.intercept_service(ask, details)

    return asked


def _listener(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" stands for all addresses, those of IPv4 too.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        one.bind(address)
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one
