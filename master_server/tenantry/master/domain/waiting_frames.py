"""What waits at a Master to be written to one end of a connection: frames that weigh hardly more than the bytes they are counted as.

Credits count bytes of payload. A message may have more around its payload than in it, and a byte in an object of its own weighs a
hundred: whoever sent such frames to somebody who takes nothing would be told that he may, and would fill the memory all the same.
"""

from collections import deque
from typing import Final

from tenantry.protocol.tunnels.frames import MAX_HEAD, decode_frame, encode_frame, head_of_data, payload_of

SMALL: Final = 4 << 10
"""Data in frames of less than this is put together where it waits, in bytes."""


class WaitingFrames:
    """Messages in their order, each with its bytes of payload; 0: no data."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, int]] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, message: bytes, count: int = 0) -> None:
        """Add a message with ``count`` bytes of payload that was checked. What stands around its frame is dropped."""
        if len(message) - count > MAX_HEAD or (0 < count < SMALL and payload_of(message) is None):
            message = encode_frame(decode_frame(message))
        if 0 < count < SMALL and self._frames:
            last, before = self._frames[-1]
            if 0 < before < SMALL:
                message = head_of_data(before + count) + last[-before:] + message[-count:]
                self._frames[-1] = message, before + count
                return
        self._frames.append((message, count))

    def take(self) -> tuple[bytes, int]:
        """The first one, which is not kept. Raises IndexError when there is none."""
        return self._frames.popleft()

    def clear(self) -> None:
        """Nothing waits any more."""
        self._frames.clear()
