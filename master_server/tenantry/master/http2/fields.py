"""Header fields: those of a request as they come, those of a response as they are sent.

Responses use no table and no Huffman code: the same bytes serve every connection, and none of them remembers anything for it.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError

Field = tuple[str, str | bytes]

_PSEUDO: Final = (b":method", b":scheme", b":authority", b":path")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN: Final = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_WITHOUT_METADATA: Final = frozenset(
    {b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"}
)
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_UNSAFE: Final = re.compile(rb"[^\x20-\x24\x26-\x7e]")
_SMALL_INTEGER: Final = 0x7F


class FieldsMalformed(Exception):
    """The header fields of a request break HTTP/2: that stream is reset."""


class FieldsUnreadable(Exception):
    """The block cannot be decoded: what comes after it cannot be either."""


class FieldsTooLarge(FieldsUnreadable):
    """The block holds more than we take."""


class Head(NamedTuple):
    """What a request begins with."""

    method: bytes
    path: bytes
    content_type: bytes
    timeout_s: float | None
    metadata: tuple[Field, ...]


Fields = tuple[tuple[bytes, bytes], ...]
_SHORT: Final = 1_024
"""Bytes of a block that is worth to be remembered."""
_KEPT: Final = 64


class FieldReader:
    """Decodes the header blocks of one connection.

    The first one of a link is the same for thousands of links and mostly the only one: it is looked up. A decoder with its table is
    made when a second one comes.
    """

    __slots__ = ("_decoder", "_first", "_longest")

    def __init__(self, longest: int) -> None:
        """``longest``: bytes of names and values of one block, each field counted as 32 more."""
        self._longest = longest
        self._first: bytes | None = None
        self._decoder: Decoder | None = None

    def read(self, block: bytes) -> Fields:
        """The fields of a block. Raises FieldsTooLarge, FieldsUnreadable."""
        decoder = self._decoder
        if decoder is None:
            first = self._first
            if first is None and len(block) <= _SHORT:
                self._first = block
                return _read_first(block, self._longest)
            decoder = self._decoder = Decoder(max_header_list_size=self._longest)
            if first is not None:
                _read(decoder, first)  # for what the peer lets it remember
                self._first = b""
        return _read(decoder, block)


def _read(decoder: Decoder, block: bytes) -> Fields:
    try:
        return tuple((bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True))
    except OversizedHeaderListError:
        raise FieldsTooLarge("the header fields are too many") from None
    except (HPACKError, UnicodeDecodeError, ValueError, IndexError):
        raise FieldsUnreadable("the header fields cannot be decoded") from None


@lru_cache(maxsize=_KEPT)
def _read_first(block: bytes, longest: int) -> Fields:
    """The first block of a connection says the same whoever sends it. What cannot be read is not remembered."""
    return _read(Decoder(max_header_list_size=longest), block)


def read_head(fields: Sequence[tuple[bytes, bytes]]) -> Head:
    """The fields of a request, sorted out. Raises FieldsMalformed."""
    pseudo: dict[bytes, bytes] = {}
    plain: dict[bytes, bytes] = {}
    metadata: list[Field] = []
    for name, value in fields:
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or plain or metadata:
                raise FieldsMalformed(f"unexpected {name!r}")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or name in _FORBIDDEN or b"\0" in value or b"\r" in value or b"\n" in value:
            raise FieldsMalformed(f"malformed {name[:64]!r}")
        plain.setdefault(name, value)
        if name not in _WITHOUT_METADATA:
            metadata.append(_metadatum(name, value))
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        raise FieldsMalformed("a request without path, method or scheme")
    return Head(
        pseudo[b":method"],
        pseudo[b":path"],
        plain.get(b"content-type", b""),
        read_timeout(plain.get(b"grpc-timeout")),
        tuple(metadata),
    )


def _metadatum(name: bytes, value: bytes) -> Field:
    if not name.endswith(b"-bin"):
        return name.decode("ascii"), value.decode("latin-1")
    try:
        return name.decode("ascii"), base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        raise FieldsMalformed(f"{name[:64]!r} is not base64") from None


def read_timeout(value: bytes | None) -> float | None:
    """``grpc-timeout`` in seconds; None where the request has none. Raises FieldsMalformed."""
    if value is None:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise FieldsMalformed("malformed grpc-timeout")
    return int(match[1]) * _UNITS[match[2]]


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block (RFC 7541, section 6.2.2: literals without indexing, their names spelled out)."""
    parts: list[bytes] = []
    for name, value in fields:
        parts += (b"\x00", _length(len(name)), name, _length(len(value)), value)
    return b"".join(parts)


def _length(size: int) -> bytes:
    """An integer behind one bit that is not set (section 5.1)."""
    if size < _SMALL_INTEGER:
        return bytes((size,))
    coded, size = bytearray((_SMALL_INTEGER,)), size - _SMALL_INTEGER
    while size > 0x7F:
        coded.append(size & 0x7F | 0x80)
        size >>= 7
    coded.append(size)
    return bytes(coded)


_STATUS_200: Final = b"\x88"  # :status 200 of the static table
BEGIN: Final = _STATUS_200 + encode_fields(
    ((b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity"))
)
"""The head of every answer."""
DONE: Final = encode_fields(((b"grpc-status", b"0"),))
"""The trailers of a call that went well."""


def trailers(code: int, text: str, metadata: Iterable[Field] = ()) -> bytes:
    """The trailers of a call that ends with a status."""
    fields = [(b"grpc-status", b"%d" % code)]
    if text:
        fields.append((b"grpc-message", _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text.encode())))
    for name, value in metadata:
        if isinstance(value, bytes) or name.endswith("-bin"):
            raw = value if isinstance(value, bytes) else value.encode()
            fields.append((name.encode("ascii"), base64.b64encode(raw).rstrip(b"=")))
        else:
            fields.append((name.encode("ascii"), value.encode("ascii", "replace")))
    return encode_fields(fields)


def plain_answer(status: int) -> bytes:
    """The head of an answer to what is no call of gRPC."""
    return encode_fields(((b":status", b"%d" % status),))
