"""One end of a conversation with the server's core: frames in, and the frames and events that come of them. No socket, no clock."""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from tenantry.master.http2 import frames
from tenantry.master.http2.connection import Connection, Event
from tenantry.master.http2.fields import encode_fields
from tenantry.master.http2.limits import Limits

CONNECT = b"/tenantry.v1.LinkService/Connect"
REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":path", CONNECT),
    (b":authority", b"link.tenantry.internal"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
LARGEST = frames.LARGEST_WINDOW


class Frame(NamedTuple):
    """A frame that the server has sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def message(data: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message."""
    return struct.pack(">BI", compressed, len(data)) + data


def split_frames(data: bytes) -> list[Frame]:
    """The frames in these bytes."""
    found, at = [], 0
    while at < len(data):
        high, low, kind, flags, stream = frames.HEAD.unpack_from(data, at)
        end = at + frames.HEAD_BYTES + (high << 8 | low)
        found.append(Frame(kind, flags, stream, data[at + frames.HEAD_BYTES : end]))
        at = end
    return found


@dataclass
class Talk:
    """A peer that says what the test wants."""

    limits: Limits = field(default_factory=Limits)
    now: float = 1_000.0

    def __post_init__(self) -> None:
        self.server = Connection(self.limits, self.now)

    def say(self, *data: bytes) -> list[Event]:
        """Send these frames; what becomes of them."""
        return self.server.receive(memoryview(b"".join(data)), self.now)

    def hear(self) -> list[Frame]:
        """What the server has to say."""
        return split_frames(self.server.take())

    def greet(self, window: int = frames.DEFAULT_WINDOW) -> None:
        """Preface and settings, and the server's answer to them."""
        assert self.say(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: window})) == []
        self.hear()

    def call(self, stream: int = 1, *more: tuple[bytes, bytes], flags: int = frames.END_HEADERS) -> list[Event]:
        """Begin a call."""
        return self.say(frames.frame(frames.HEADERS, flags, stream, encode_fields((*REQUEST, *more))))

    def data(self, payload: bytes, stream: int = 1, flags: int = 0) -> list[Event]:
        """Send data in a call."""
        return self.say(frames.frame(frames.DATA, flags, stream, payload))


def opened(limits: Limits | None = None, window: int = frames.DEFAULT_WINDOW) -> Talk:
    """A conversation in which call 1 is open."""
    talk = Talk(limits or Limits())
    talk.greet(window)
    assert len(talk.call()) == 1
    assert talk.hear() == []
    return talk
