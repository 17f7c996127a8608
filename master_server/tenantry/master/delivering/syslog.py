"""Syslog as a receiver: one message, over what was judged before."""

import asyncio
import contextlib
from typing import Final

from tenantry.master.delivering.dialling import Dialler, Streams, tls_context, why
from tenantry.master.delivering.outgoing import NotTaken, Outgoing
from tenantry.master.delivering.templates import one_line
from tenantry.master.domain.receivers import SyslogSettings, SyslogTransport
from tenantry.protocol.syslog import (
    CRITICAL,
    DEFAULT_SIZE,
    ERROR,
    INFORMATIONAL,
    NOTICE,
    WARNING,
    counted,
    format_syslog,
    syslog_header,
)

CLOSE_S: Final = 2.0
"""How long a server has to close its side, once it was told that nothing more comes. One that does not has taken the message too."""

_SEVERITIES: Final = {"critical": CRITICAL, "high": ERROR, "medium": WARNING, "low": NOTICE, "info": INFORMATIONAL}


class SyslogSender:
    """Sends one message a connection. ``own_name``: the host that the message is of."""

    def __init__(self, dialler: Dialler, own_name: str) -> None:
        self._dialler = dialler
        self._own_name = own_name

    async def send(self, outgoing: Outgoing, settings: SyslogSettings) -> str:
        """How it was taken. Raises NotTaken, NotReached, OSError."""
        message = self._message(outgoing, settings)
        destination = settings.destination
        if settings.transport is SyslogTransport.UDP:
            with await self._dialler.datagrams(destination) as sender:
                await asyncio.get_running_loop().sock_sendall(sender, message)
            return "sent as a datagram; nobody says whether it has arrived"
        secure = settings.transport is SyslogTransport.TLS
        context = tls_context(settings.authorities) if secure else None
        async with self._dialler.streams(destination, context) as streams:
            streams.writer.write(counted(message))
            try:
                await streams.writer.drain()
                await _closed(streams, secure=secure)
            except OSError as error:
                raise NotTaken(f"the connection to the syslog server is lost: {why(error)}") from None
        return "sent; the server has not said anything against it"

    def _message(self, outgoing: Outgoing, settings: SyslogSettings) -> bytes:
        severity = INFORMATIONAL if outgoing.over else _SEVERITIES.get(outgoing.severity, WARNING)
        header = syslog_header(settings.facility, severity, outgoing.event_ms, self._own_name, "alert")
        text = one_line(outgoing.texts["text"])
        parameters = {"delivery": outgoing.key, **outgoing.parameters}
        return format_syslog(header, parameters, text, len(text.encode()), DEFAULT_SIZE)


async def _closed(streams: Streams, *, secure: bool) -> None:
    """Say that nothing more comes, and wait until the server has read what did. Raises OSError where it has thrown that away."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            if secure:
                streams.writer.close()
                await streams.writer.wait_closed()
            else:
                streams.writer.write_eof()
                await streams.reader.read(1)
