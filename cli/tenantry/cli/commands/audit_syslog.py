"""The audit as syslog: messages of RFC 5424, over UDP (RFC 5426), TCP with counted octets (RFC 6587) or TLS (RFC 5425)."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tenantry.cli.commands.audit_chain import ExportedLink
from tenantry.cli.troubles import InputInvalid, Trouble
from tenantry.protocol.failures import EXIT_UNREACHABLE, FieldInvalid
from tenantry.protocol.joining import split_address
from tenantry.protocol.syslog import (
    DEFAULT_SIZE,
    NOTICE,
    USUAL_PORTS,
    WARNING,
    counted,
    format_syslog,
    syslog_header,
)

FACILITY: Final = 13  # log audit
DATAGRAMS_AT_ONCE: Final = 20
_PAUSE_S: Final = 0.01
_TIMEOUT_S: Final = 15.0
_CLOSE_S: Final = 5.0


class SyslogUnreachable(Trouble):
    """The syslog server does not take messages."""

    reason = "SYSLOG_UNREACHABLE"
    exit_code = EXIT_UNREACHABLE


def format_message(link: ExportedLink, host: str, size: int = DEFAULT_SIZE) -> bytes:
    """One record as a syslog message: the main fields as structured data, the whole record as its text (`format_syslog`)."""
    record: dict[str, Any] = json.loads(link.record)
    fields = record["fields"]
    severity = NOTICE if fields.get("outcome") == "done" else WARNING
    parameters = {
        "sequence": link.sequence,
        "hash": link.hash.hex(),
        "previous": link.previous.hex(),
        **{name: fields.get(name) for name in ("actor", "action", "outcome", "failure", "address", "request_id")},
        "tenant": record["tenant"],
    }
    # Line ends within it are escaped by JSON already; these two are not.
    text = link.record.decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x7f", "\\u007f")
    header = syslog_header(FACILITY, severity, record["timestamp_ms"], host, "audit")
    return format_syslog(header, parameters, text, len(link.record), size)


@contextlib.contextmanager
def open_syslog(address: str, ca: Path | None) -> Iterator[Callable[[bytes], None]]:
    """A function that sends one message. Raises InputInvalid, SyslogUnreachable."""
    protocol, separator, place = address.partition("://")
    if not separator:
        protocol, place = "tcp", address
    if protocol not in USUAL_PORTS:
        raise InputInvalid(
            f"{protocol[:20]!r} is no way to a syslog server", "Write it like tls://logs.example.org:6514."
        )
    if ca is not None and protocol != "tls":
        raise InputInvalid("--syslog-ca is for tls", "Write the address like tls://logs.example.org:6514.")
    try:
        host, port = split_address(place, USUAL_PORTS[protocol])
    except FieldInvalid as failure:
        raise InputInvalid(failure.describe(), "Write it like tls://logs.example.org:6514.") from None
    try:
        with _connect(protocol, host, port, ca) as connection:
            yield _sender(protocol, connection)
            if protocol != "udp":
                _close(connection)
    except OSError as error:
        raise SyslogUnreachable(
            f"the syslog server at {host} port {port} takes no messages: {error.strerror or error}",
            "Check the address and the server; what was sent last may not have arrived.",
            {"host": host, "port": str(port)},
        ) from None


def _connect(protocol: str, host: str, port: int, ca: Path | None) -> socket.socket:
    if protocol == "udp":
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(kind, socket.SOCK_DGRAM)
        datagrams.connect(address)
        return datagrams
    connection = socket.create_connection((host, port), _TIMEOUT_S)
    if protocol == "tcp":
        return connection
    context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _sender(protocol: str, connection: socket.socket) -> Callable[[bytes], None]:
    if protocol == "udp":
        return _Datagrams(connection)
    return lambda message: connection.sendall(counted(message))


class _Datagrams:
    """Sends no faster than a server reads (2,000 a second): nobody says when its buffer is full, and what comes then is lost."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sent = 0

    def __call__(self, message: bytes) -> None:
        self._connection.sendall(message)
        self._sent += 1
        if self._sent % DATAGRAMS_AT_ONCE == 0:
            time.sleep(_PAUSE_S)


def _close(connection: socket.socket) -> None:
    """Say that nothing more comes, and wait until the server has taken what did: it then closes, or the time is over.

    Raises OSError when the server has thrown away what it had not read yet.
    """
    connection.settimeout(_CLOSE_S)
    with contextlib.suppress(TimeoutError, ssl.SSLError):
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()
        else:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
