"""The console's HTTPS on the Master's loop: HTTP/2 and HTTP/1.1 by Hypercorn."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import wrap_app
from typing_extensions import override

BACKLOG: Final = 256
HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 30.0
"""How long a connection may stay open without a request; also how long a request's head may take."""
STREAMS: Final = 128
"""Calls at once on one connection."""
GRACE_S: Final = 1.0
"""How long connections may take to close: browsers leave them open until TLS itself gives up."""


def _settings() -> Config:
    """Those of each connection."""
    config = Config()
    config.keep_alive_timeout = IDLE_S
    config.h2_max_concurrent_streams = STREAMS
    config.include_server_header = False
    config.errorlog = logging.getLogger("tenantry.console")
    config.errorlog.setLevel(logging.WARNING)
    config.accesslog = None
    return config


class _EndsOfConnections(logging.Filter):
    """What asyncio says about connections that end, in proportion: strangers make them end as often as they like.

    Up to Python 3.11 one that is cancelled while it closes is reported as an error of its callback. One that breaks the rules of
    HTTP/2 in the midst of things ends with a traceback of the server, where a line is enough. Faults of the console itself never
    come this way.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        error = None if record.exc_info is None else record.exc_info[1]
        if isinstance(error, BaseExceptionGroup) and "client_connected_cb" in record.getMessage():
            causes = ", ".join(sorted({type(cause).__name__ for cause in error.exceptions}))
            record.msg, record.args, record.exc_info = "connection of a browser broken off: %s", (causes,), None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return not isinstance(error, asyncio.CancelledError)


_ENDS: Final = _EndsOfConnections()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there (port 0: a free one); who connects waits until somebody serves. Raises OSError."""
    (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


class Connections:
    """The connections of browsers that are past their TLS handshake."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def open(self) -> int:
        """How many there are now. May be asked from any thread."""
        return len(self._tasks)

    def note(self) -> None:
        """The task that calls this is one, until it ends."""
        task: asyncio.Task[Any] | None = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end(self, within_s: float) -> None:
        """Wait so long until they have closed by themselves, and break off what is left."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=within_s)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(
    application: Any, bound: socket.socket, tls: ssl.SSLContext, connections: Connections
) -> AsyncIterator[None]:
    """Answer on this socket until the block ends; what is being answered then has `GRACE_S`. Closes the socket."""
    config, context, loop = _settings(), WorkerContext(None), asyncio.get_running_loop()
    app = wrap_app(application, config.wsgi_max_body_size, "asgi")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.note()
        await TCPServer(app, loop, config, context, {}, reader, writer)

    # For good: the last of those callbacks are called when all else has ended.
    logging.getLogger("asyncio").addFilter(_ENDS)
    with bound:
        # Hypercorn's own loop around this counts nothing.
        server = await asyncio.start_server(
            connected, sock=bound, backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S
        )
        try:
            yield
        finally:
            await context.terminated.set()
            server.close()
            await connections.end(GRACE_S)
