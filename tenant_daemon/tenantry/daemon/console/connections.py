"""Connections of browsers: HTTP/1.1 over asyncio streams, with bounds on their number, their headers and their time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import h11
import structlog

from tenantry.daemon.console.answering import Answer, Request
from tenantry.daemon.console.defences import HEADERS

_log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 32
MOST_HEADERS = 16 * 1024
REQUEST_S = 10.0
"""For a whole request to come, and as long may a connection stay without one: a page that is open asks every 2 s."""
ANSWER_S = 10.0
"""For an answer to be found, and as long for it to be taken."""
_READ = 8 * 1024


class Connections:
    """The open connections. A new one takes the place of the one that is open longest where there is no place left."""

    def __init__(self, answer: Callable[[Request], Awaitable[Answer]]) -> None:
        self._answer = answer
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on a connection until it ends, or has to."""
        if len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()  # the browser went away, or is too slow
        except Exception as error:  # noqa: BLE001 - a page that cannot be shown must not end the daemon's loop
            _log.error("console failed", cause=type(error).__name__)
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)
            writer.close()

    def abort(self) -> None:
        """End all connections at once."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADERS)
        while True:
            try:
                async with asyncio.timeout(REQUEST_S):
                    request = await _read_request(connection, reader)
                if request is None:
                    return
                async with asyncio.timeout(ANSWER_S):
                    answer, closing = await self._answer(request), False
            except h11.RemoteProtocolError as error:
                request, answer, closing = None, Answer(error.error_status_hint, b""), True
            async with asyncio.timeout(ANSWER_S):
                writer.write(_encode(connection, answer, closing=closing, bare=_is_head(request)))
                await writer.drain()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()


def _is_head(request: Request | None) -> bool:
    return request is not None and request.method == "HEAD"


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the browser has ended the connection. Raises RemoteProtocolError, also where one has content."""
    request: Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Request):
            headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
            request = Request(event.method.decode("ascii"), event.target.decode("ascii"), headers)
        elif isinstance(event, h11.Data):
            raise h11.RemoteProtocolError("no request has content", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:
            return None


def _encode(connection: h11.Connection, answer: Answer, *, closing: bool, bare: bool) -> bytes:
    headers = [("content-type", answer.media_type), ("content-length", str(len(answer.content))), *HEADERS]
    headers += answer.headers
    if closing:
        headers.append(("connection", "close"))
    parts = [connection.send(h11.Response(status_code=answer.status, headers=headers))]
    if answer.content and not bare:
        parts.append(connection.send(h11.Data(data=answer.content)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)
