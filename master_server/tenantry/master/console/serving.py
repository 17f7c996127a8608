"""The console's HTTPS on the Master's loop: HTTP/2 and HTTP/1.1 by Hypercorn."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets
from typing_extensions import override

BACKLOG: Final = 256
HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 30.0
"""How long a connection may stay open without a request; also how long a request's head may take."""
STREAMS: Final = 128
"""Calls at once on one connection."""
GRACE_S: Final = 1.0
"""How long connections may take to close: browsers leave them open until TLS itself gives up."""


class _OneSocket(Config):
    """Settings of a server on a socket that is bound, with a TLS context that is made."""

    def __init__(self, bound: socket.socket, tls: ssl.SSLContext) -> None:
        self._bound = bound
        self._tls = tls
        self.backlog = BACKLOG
        self.ssl_handshake_timeout = HANDSHAKE_S
        self.keep_alive_timeout = IDLE_S
        self.h2_max_concurrent_streams = STREAMS
        self.graceful_timeout = GRACE_S
        self.include_server_header = False
        self.errorlog = logging.getLogger("tenantry.console")
        self.errorlog.setLevel(logging.WARNING)
        self.accesslog = None

    @property
    def ssl_enabled(self) -> bool:
        return True

    @override
    def create_ssl_context(self) -> ssl.SSLContext:
        return self._tls

    @override
    def create_sockets(self) -> Sockets:
        return Sockets([self._bound], [], [])


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


@contextlib.asynccontextmanager
async def serving(application: Any, bound: socket.socket, tls: ssl.SSLContext) -> AsyncIterator[None]:
    """Answer on this socket until the block ends; what is being answered then has `GRACE_S`. Closes the socket."""
    stopped = asyncio.Event()
    config = _OneSocket(bound, tls)
    # For good: the last of those callbacks are called when all else has ended.
    logging.getLogger("asyncio").addFilter(_ENDS)
    with bound:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(application, config, shutdown_trigger=stopped.wait, mode="asgi"))
            try:
                yield
            finally:
                stopped.set()
