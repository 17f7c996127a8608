"""Places as texts that callers hand back: cursors of records, and page tokens that belong to one listing."""

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Final

from tenantry.master.operations.metric_ticks import Arrival
from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid

_POSITION: Final = struct.Struct(">q")
_ARRIVAL: Final = struct.Struct(">6q")
_SEAL_BYTES: Final = 12
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


class PageTokens:
    """Makes page tokens and recognises its own: each holds the place where the next page begins, for one listing only."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: at least 16 bytes that only this Master knows; with other bytes, older tokens are refused."""
        self._secret = secret

    def make(self, listing: str, place: tuple[int, ...]) -> str:
        """A token for what comes behind ``place`` in ``listing``, a text that says what is listed and in which order."""
        packed = struct.pack(f">{len(place)}q", *place)
        return _text(self._seal(listing, packed) + packed)

    def read(self, listing: str, token: str) -> tuple[int, ...] | None:
        """The place in a token; None for an empty one. Raises PageTokenInvalid for one that was not made for this listing."""
        if not token:
            return None
        try:
            raw = _octets(token)
        except ValueError:
            raise PageTokenInvalid from None
        seal, packed = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(listing, packed)):
            raise PageTokenInvalid
        return struct.unpack(f">{len(packed) // 8}q", packed)

    def _seal(self, listing: str, packed: bytes) -> bytes:
        return hmac.digest(self._secret, listing.encode() + b"\0" + packed, hashlib.sha256)[:_SEAL_BYTES]


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
