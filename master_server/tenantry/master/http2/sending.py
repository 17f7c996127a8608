"""What a connection sends: frames in their order, and messages no faster than the peer's windows allow."""

from typing import Final

from tenantry.master.http2 import frames
from tenantry.master.http2.fields import BEGIN
from tenantry.master.http2.frames import HEAD, ErrorCode
from tenantry.master.http2.streams import MESSAGE, MESSAGE_HEAD, Stream

_END_BOTH: Final = frames.END_STREAM | frames.END_HEADERS


class WindowTooLarge(Exception):
    """A window of the peer is larger than one can be."""


class Sender:
    """The outgoing half of a connection. Windows are the peer's: what it takes."""

    __slots__ = ("initial_window", "max_frame", "moved", "out", "window")

    def __init__(self) -> None:
        self.out = bytearray()
        self.window = self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.MAX_FRAME
        self.moved = 0
        """Bytes that had waited for a window and were sent."""

    def send(self, number: int, stream: Stream, message: bytes) -> bool:
        """Send a message; False while a part of it waits for a window."""
        if not stream.answered:
            stream.answered = True
            self.out += frames.frame(frames.HEADERS, frames.END_HEADERS, number, BEGIN)
        size = len(message) + MESSAGE_HEAD
        if stream.pending is None and size <= min(stream.send_window, self.window, self.max_frame):
            stream.send_window -= size
            self.window -= size
            self.out += HEAD.pack(size >> 8, size & 0xFF, frames.DATA, 0, number)
            self.out += MESSAGE.pack(0, size - MESSAGE_HEAD)
            self.out += message
            return True
        if stream.pending is None:
            stream.pending = bytearray()
        stream.pending += MESSAGE.pack(0, size - MESSAGE_HEAD)
        stream.pending += message
        self.send_pending(number, stream)
        return stream.pending is None

    def send_pending(self, number: int, stream: Stream) -> int:
        """Send of what waits on a stream what the windows allow: how many frames were as large as they could be."""
        pending, at, full = stream.pending or bytearray(), 0, 0
        while at < len(pending):
            size = min(len(pending) - at, stream.send_window, self.window, self.max_frame)
            if size <= 0:
                break
            stream.send_window -= size
            self.window -= size
            self.out += HEAD.pack(size >> 8, size & 0xFF, frames.DATA, 0, number)
            self.out += pending[at : at + size]
            at += size
            full += size == self.max_frame or at == len(pending)
        self.moved += at
        del pending[:at]
        if not pending:
            stream.pending = None
        return full

    def end(self, number: int, stream: Stream, block: bytes) -> None:
        """End a stream with these trailers, or with them alone where nothing was answered."""
        if not stream.answered:
            block = BEGIN + block
        self.end_with(number, stream, block)

    def end_with(self, number: int, stream: Stream, block: bytes) -> None:
        """End a stream with this header block."""
        size = frames.MAX_FRAME
        self.out += frames.frame(
            frames.HEADERS, frames.END_STREAM if len(block) > size else _END_BOTH, number, block[:size]
        )
        for start in range(size, len(block), size):
            last = frames.END_HEADERS if start + size >= len(block) else 0
            self.out += frames.frame(frames.CONTINUATION, last, number, block[start : start + size])
        if not stream.heard_out:
            # The peer need not send the rest (section 8.1).
            self.out += frames.reset(number, ErrorCode.NO_ERROR)

    def widen(self, more: int) -> None:
        """The peer takes so much more on the connection. Raises WindowTooLarge."""
        self.window += more
        if self.window > frames.LARGEST_WINDOW:
            raise WindowTooLarge

    def change_initial_window(self, value: int, streams: dict[int, Stream]) -> None:
        """The peer changes the window of every stream. Raises WindowTooLarge."""
        change, self.initial_window = value - self.initial_window, value
        for stream in streams.values():
            stream.send_window += change
        if max(value, *(stream.send_window for stream in streams.values()), 0) > frames.LARGEST_WINDOW:
            raise WindowTooLarge
