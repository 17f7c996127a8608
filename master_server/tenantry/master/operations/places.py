"""Places in streams, and among the changes of alerts, as texts that callers hand back: cursors."""

import base64
import binascii
import struct
from typing import Final

from tenantry.master.operations.metric_ticks import Arrival
from tenantry.protocol.failures import FieldInvalid

_POSITION: Final = struct.Struct(">q")
_ARRIVAL: Final = struct.Struct(">6q")
_REVISION: Final = struct.Struct(">6sq")  # of a length that no other has
_OF_ALERTS: Final = b"alerts"
MAX_TEXT: Final = 256


def write_position(position: int) -> str:
    """The cursor of a record."""
    return _text(_POSITION.pack(position))


def read_position(cursor: str) -> int:
    """The inverse of `write_position`. Raises FieldInvalid."""
    return int(_read_cursor(_POSITION, cursor)[0])


def write_arrival(arrival: Arrival) -> str:
    """The cursor of a sample."""
    return _text(_ARRIVAL.pack(*arrival))


def read_arrival(cursor: str) -> Arrival:
    """The inverse of `write_arrival`. Raises FieldInvalid."""
    return Arrival(*_read_cursor(_ARRIVAL, cursor))


def write_revision(revision: int) -> str:
    """The cursor behind a change of an alert."""
    return _text(_REVISION.pack(_OF_ALERTS, revision))


def read_revision(cursor: str) -> int:
    """The inverse of `write_revision`. Raises FieldInvalid."""
    return int(_read_cursor(_REVISION, cursor)[1])


def _read_cursor(shape: struct.Struct, cursor: str) -> tuple[int, ...]:
    try:
        return shape.unpack(_octets(cursor))
    except (ValueError, struct.error):
        raise FieldInvalid(
            field="after_cursor", problem="is not a cursor of this stream", expected="what a record of it carried"
        ) from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _octets(text: str) -> bytes:
    if len(text) > MAX_TEXT:
        raise ValueError("too long")
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
    if _text(raw) != text:
        raise ValueError("not in the one form that we write")
    return raw
