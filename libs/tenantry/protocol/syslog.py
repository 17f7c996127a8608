"""Syslog messages (RFC 5424), and how they go over TCP (RFC 6587) and TLS (RFC 5425)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Final

SD_ID: Final = "tenantry@32473"
DEFAULT_SIZE: Final = 8_192
"""Bytes of a message: what RFC 5425 asks of every server, and rsyslog takes unless it is told otherwise."""
MIN_SIZE: Final = 2_048
USUAL_PORTS: Final[Mapping[str, int]] = {"udp": 514, "tcp": 601, "tls": 6514}
CRITICAL: Final = 2
ERROR: Final = 3
WARNING: Final = 4
NOTICE: Final = 5
INFORMATIONAL: Final = 6
_MAX_VALUE: Final = 256
_NOT_PRINTABLE: Final = re.compile(r"[^!-~]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def syslog_header(facility: int, severity: int, timestamp_ms: int, host: str, kind: str) -> str:
    """How a message begins, up to its structured data. ``kind``: the MSGID."""
    moment = dt.datetime.fromtimestamp(timestamp_ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return (
        f"<{facility * 8 + severity}>1 {moment}.{timestamp_ms % 1000:03d}Z {_word(host, 255)} tenantry-master - {kind}"
    )


def format_syslog(header: str, parameters: Mapping[str, object], text: str, whole: int, size: int) -> bytes:
    """A message with structured data; empty parameters are left out.

    One of more than ``size`` bytes (`MIN_SIZE` or more) is cut here, and says so by the parameter ``cut``: how many bytes (``whole``)
    its text had before. A server that is sent more takes the rest for another message, and whoever wrote the text would have written
    that.
    """
    message = _compose(header, parameters, text)
    if len(message) > size:
        message = _compose(header, {**parameters, "cut": whole}, text)[:size]
        # Not in the middle of a character.
        message = message.decode(errors="ignore").encode()
    return message


def counted(message: bytes) -> bytes:
    """The message as TCP and TLS carry it: its octets counted."""
    return b"%d %b" % (len(message), message)


def _compose(header: str, parameters: Mapping[str, object], text: str) -> bytes:
    data = " ".join(
        f'{name}="{_escape(str(value)[:_MAX_VALUE])}"' for name, value in parameters.items() if value not in (None, "")
    )
    # A BOM says that the text is UTF-8.
    return f"{header} [{SD_ID} {data}] \ufeff{text}".encode()


def _escape(value: str) -> str:
    """A parameter's value: the three characters that RFC 5424 names are escaped, control characters are replaced."""
    return re.sub(r'(["\\\]])', r"\\\1", _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value))


def _word(value: str, limit: int) -> str:
    return _NOT_PRINTABLE.sub("?", value)[:limit] or "-"
