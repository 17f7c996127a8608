"""The newest records of a stream, for people on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tenantry.daemon.operations.outbox import Outbox
from tenantry.protocol.daemon_link import Fetch
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Loss, Stream
from tenantry.transport.records import decode_alert, decode_notification

MOST = 200
_BYTES = 64 * 1024


def _alert(record: bytes) -> dict[str, Any]:
    alert = decode_alert(record)
    return {
        "timestamp_ms": alert.timestamp_ms,
        "rule": alert.rule,
        "firing": alert.firing,
        "severity": alert.severity.value,
        "message": alert.message,
    }


def _notification(record: bytes) -> dict[str, Any]:
    notification = decode_notification(record)
    return {
        "timestamp_ms": notification.timestamp_ms,
        "level": notification.level.value,
        "source": notification.source,
        "text": notification.text,
    }


_READABLE: Mapping[Stream, Callable[[bytes], dict[str, Any]]] = {
    Stream.ALERTS: _alert,
    Stream.NOTIFICATIONS: _notification,
}


async def read_newest(outbox: Outbox, name: str, limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` records that the spool still has of ``alerts`` or ``notifications``, oldest first.

    Raises FieldInvalid, SpoolUnavailable, SpoolReplaced.
    """
    stream = next((one for one in _READABLE if one.value == name), None)
    if stream is None:
        raise FieldInvalid(
            field="stream", problem="is unknown", expected=f"one of {', '.join(one.value for one in _READABLE)}"
        )
    if not 1 <= limit <= MOST:
        raise FieldInvalid(field="limit", problem=f"is {limit}", expected=f"1 to {MOST}")
    end = outbox.ends[stream]
    place = max(1, end - limit)
    found: list[dict[str, Any]] = []
    while place < end:
        message = (await outbox.fetch(Fetch(stream, place, end - place, _BYTES))).message
        if isinstance(message, Loss):
            place = message.last_seq + 1
        else:
            found += [_READABLE[stream](record) for record in message.records]
            place += len(message.records)
    return found
