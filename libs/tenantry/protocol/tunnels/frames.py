"""The frames of a connection through a tunnel, to and from their bytes on the wire.

The bytes are those of `DialRequest`, `DialResponse`, `AnswerRequest` and `AnswerResponse` in tunnel_relay_service.proto, which have
the same field numbers; written and read by hand, because a payload that is not copied once more is what makes a tunnel fast. Whatever
encoding of a frame protobuf takes is taken here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.names import tidy_text
from tenantry.protocol.tunnels.ends import TunnelEnd, end_of_number

MAX_DATA: Final = 1 << 20
"""Largest payload of one frame, in bytes."""
MAX_HEAD: Final = 5
"""Longest head of a data frame, in bytes."""
MAX_DETAIL: Final = 500
MAX_NUMBER: Final = (1 << 64) - 1
_MAX_CONTROL: Final = 4_096
_DATA, _FIN, _CREDIT, _RESET, _JOINED = 1, 2, 3, 4, 6
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DATA_TAG: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the connection."""

    payload: memoryview


@dataclass(frozen=True, slots=True)
class Fin:
    """No further data follows in this direction."""


@dataclass(frozen=True, slots=True)
class Credit:
    """The receiver of data allows so many bytes more."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is over at once, in both directions."""

    end: TunnelEnd
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """Both ends are there; the other one takes ``window`` bytes before it allows more."""

    window: int


Frame = Data | Fin | Credit | Reset | Joined


def head_of_data(length: int) -> bytes:
    """What stands before ``length`` bytes of payload in a data frame."""
    return b"\x0a" + _varint(length)


def payload_of(message: bytes) -> memoryview | None:
    """The payload, without a copy, of a message that is a data frame in its usual encoding; None: use `decode_frame`."""
    size = len(message)
    if size < 3 or message[0] != _DATA_TAG:
        return None
    length = message[1]
    start = 2
    if length >= 0x80:
        length = (length & 0x7F) | (message[2] & 0x7F) << 7
        start = 3
        if message[2] >= 0x80 and size > 3:
            length |= message[3] << 14  # what is longer fits no frame, and comes out as another length
            start = 4
    return memoryview(message)[start:] if size - start == length else None


def encode_frame(frame: Frame) -> bytes:
    """A frame on the wire."""
    match frame:
        case Data():
            return head_of_data(len(frame.payload)) + frame.payload
        case Fin():
            return b"\x12\x00"
        case Credit():
            return _field(_CREDIT, b"\x08" + _varint(frame.bytes))
        case Reset():
            detail = frame.detail[:MAX_DETAIL].encode()
            return _field(_RESET, b"\x08" + _varint(frame.end.number) + (_field(2, detail) if detail else b""))
        case Joined():
            return _field(_JOINED, b"\x08" + _varint(frame.window))


def decode_frame(message: bytes) -> Frame:
    """A frame from the wire. Raises TunnelProtocolViolated for what is none, or is larger than a frame may be."""
    try:
        kind, content = _read_frame(message)
        return _make_frame(kind, content)
    except (ValueError, IndexError):
        raise TunnelProtocolViolated(problem="a message that cannot be read") from None


def _make_frame(kind: int, content: memoryview) -> Frame:
    if kind == _DATA:
        if not 1 <= len(content) <= MAX_DATA:
            raise TunnelProtocolViolated(problem=f"a frame with {len(content)} bytes of data")
        return Data(content)
    if len(content) > _MAX_CONTROL:
        raise TunnelProtocolViolated(problem="a frame without data that is too large")
    numbers, texts = _read_fields(content)
    match kind:
        case 2:
            return Fin()
        case 3:
            return Credit(numbers.get(1, 0))
        case 4:
            end = end_of_number(numbers.get(1, 0)) or TunnelEnd.RESET
            return Reset(end, tidy_text(texts.get(2, b"").decode(), MAX_DETAIL))
        case 6:
            return Joined(numbers.get(1, 0))
        case _:
            raise TunnelProtocolViolated(problem="a message without one of the known frames")


def _read_frame(message: bytes) -> tuple[int, memoryview]:
    """The frame of a message: which, and its content. Of several the last counts; parts of the same one are one."""
    whole = memoryview(message)
    kind, content, place = 0, memoryview(b""), 0
    while place < len(whole):
        tag, place = _read_varint(whole, place)
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES and field in (_DATA, _FIN, _CREDIT, _RESET, _JOINED):
            length, place = _read_varint(whole, place)
            if length > len(whole) - place:
                raise ValueError
            part = whole[place : place + length]
            if field != _DATA:
                _check_part(field, part)
            content = memoryview(bytes(content) + bytes(part)) if field == kind != _DATA else part
            kind = field
            place += length
        elif wire == _BYTES and field == 5:
            raise TunnelProtocolViolated(problem="a second begin")
        else:
            place = _skip(whole, place, field, wire)
    return kind, content


def _check_part(kind: int, part: memoryview) -> None:
    """Each part of a frame without data has to be one by itself, also where another one counts. Raises ValueError, IndexError."""
    if len(part) > _MAX_CONTROL:
        raise TunnelProtocolViolated(problem="a frame without data that is too large")
    _, texts = _read_fields(part)
    if kind == _RESET:
        texts.get(2, b"").decode()


def _read_fields(content: memoryview) -> tuple[dict[int, int], dict[int, bytes]]:
    """The numbers and the bytes of a small message, by field; the last of each counts."""
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    place = 0
    while place < len(content):
        tag, place = _read_varint(content, place)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise ValueError
        if wire == _VARINT:
            numbers[field], place = _read_varint(content, place)
        elif wire == _BYTES:
            length, place = _read_varint(content, place)
            if length > len(content) - place:
                raise ValueError
            texts[field] = bytes(content[place : place + length])
            place += length
        else:
            place = _skip(content, place, field, wire)
    return numbers, texts


def _skip(content: memoryview, place: int, field: int, wire: int) -> int:
    """The place behind a field that is not known."""
    if field == 0:
        raise ValueError
    if wire == _VARINT:
        return _read_varint(content, place)[1]
    if wire == _BYTES:
        length, place = _read_varint(content, place)
    elif wire in (_FIXED64, _FIXED32):
        length = 8 if wire == _FIXED64 else 4
    else:
        raise ValueError
    if length > len(content) - place:
        raise ValueError
    return place + length


def _read_varint(content: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    for at in range(place, place + 10):
        byte = content[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & MAX_NUMBER, at + 1
        shift += 7
    raise ValueError


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _varint(len(content)) + content
