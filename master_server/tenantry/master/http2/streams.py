"""One stream of a connection: its messages as they come in pieces, and what waits for the peer's windows."""

import struct
from typing import Final

MESSAGE: Final = struct.Struct(">BI")
"""In front of each gRPC message: whether it is compressed, and its length."""
MESSAGE_HEAD: Final = 5
MESSAGE_COST: Final = 64
"""What a message costs beside its bytes while it waits; an empty one too."""


class MessageTooLarge(Exception):
    """A message is longer than we take; its length says so before it comes."""


class MessageCompressed(Exception):
    """A message is compressed, which we have said that we do not take."""


class Stream:
    """A stream that is open. Windows and counts are kept by the connection."""

    __slots__ = (
        "answered",
        "heard_out",
        "owed",
        "partial",
        "pending",
        "send_window",
        "trailers",
        "unread",
        "window",
    )

    def __init__(self, window: int, send_window: int) -> None:
        self.window = window
        """Bytes that the peer may send."""
        self.owed = 0
        """Bytes that came and for which it has not been allowed others yet."""
        self.unread = 0
        """Bytes of messages that nobody has taken."""
        self.partial: bytearray | None = None
        """The begin of a message that is not complete."""
        self.heard_out = False
        """The peer has ended its side."""
        self.send_window = send_window
        """Bytes that we may send; settings can make it negative."""
        self.pending: bytearray | None = None
        """Messages, framed by gRPC, that wait for a window."""
        self.answered = False
        """The head of the answer is sent."""
        self.trailers: bytes | None = None
        """How the stream ends, once all is sent."""

    def feed(self, data: memoryview, longest: int) -> list[bytes]:
        """The messages that these bytes complete. Raises MessageTooLarge, MessageCompressed."""
        partial = self.partial
        if partial is None:
            partial = self.partial = bytearray(data)
        else:
            partial += data
        messages, at, size = [], 0, len(partial)
        while size - at >= MESSAGE_HEAD:
            compressed, length = MESSAGE.unpack_from(partial, at)
            if length > longest:
                raise MessageTooLarge
            end = at + MESSAGE_HEAD + length
            if end > size:
                break
            if compressed:  # only now: clients of gRPC's hide the status of a call that ends while they write to it
                raise MessageCompressed
            messages.append(bytes(partial[at + MESSAGE_HEAD : end]))
            at = end
        if at == size:
            self.partial = None
        elif at:
            del partial[:at]
        return messages
