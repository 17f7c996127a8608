"""What one peer may take of us. Each bound is counted for a connection, whose peer has shown a certificate before."""

from dataclasses import dataclass
from typing import Final

from tenantry.transport.settings import LOOKAHEAD_BYTES, MAX_METADATA_BYTES, MAX_RECEIVE_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a connection; times in seconds, sizes in bytes."""

    streams: int = 16
    """Calls at once; one that was reset counts until its handler has ended."""
    stream_window: int = LOOKAHEAD_BYTES
    """What a peer may send on a stream beyond what was taken."""
    held: int = (2 << 20) + 65_536
    """Bytes of one connection that were received and not yet taken, unfinished messages counted, before it may send no more."""
    message: int = MAX_RECEIVE_BYTES
    """The largest message."""
    fields: int = MAX_METADATA_BYTES
    """Names and values of one header block."""
    block: int = 16_384
    """A header block as it comes."""
    continuations: int = 8
    """Frames of one header block behind its first."""
    frames_burst: float = 1_000.0
    """Frames that lead to nothing (settings, pings, resets, priorities, empty data, windows, what comes too late) that may come at
    once."""
    frames_rate: float = 50.0
    """How many of them a second for long."""
    calls_burst: float = 200.0
    """Calls that may be begun at once."""
    calls_rate: float = 20.0
    """How many a second for long."""
    ping_gap: float = 2.5
    """Least time between the pings of a peer that is sent nothing meanwhile."""
    ping_strikes: int = 2
    """How often it may fall short of that."""


LIMITS: Final = Limits()


class Allowance:
    """So many at once, so many a second for long."""

    __slots__ = ("_at", "_left", "most", "rate")

    def __init__(self, most: float, rate: float, now: float) -> None:
        self.most = most
        self.rate = rate
        self._left = most
        self._at = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none left."""
        self._left = min(self.most, self._left + (now - self._at) * self.rate) - 1.0
        self._at = now
        return self._left >= 0.0

    def give(self, count: float) -> None:
        """So many more are in order."""
        self._left += count


FRAMES_BACK: Final = 2.0
"""Frames that are in order for each one of data that is sent: the windows of its stream and of its connection grow by it."""


HANDSHAKE_S: Final = 60.0
"""From the connection to the peer's settings."""
KEEPALIVE_S: Final = 4.5
"""Silence after which a peer is pinged."""
PING_S: Final = 3.0
"""How long it has to answer: one that is frozen is noticed within 8 s."""
STALL_S: Final = 60.0
"""How long a peer may take nothing of what waits for it."""
IDLE_S: Final = 300.0
"""How long a connection may have no call."""
AGE_S: Final = 3_600.0
"""How long a connection may live; then its calls have `AGE_GRACE_S` to end."""
AGE_GRACE_S: Final = 30.0
