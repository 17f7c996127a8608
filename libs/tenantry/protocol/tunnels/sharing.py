"""How large frames may be where connections share a way: what one of them says waits behind the frames of the others.

A large frame costs little for each byte, and holds up whoever says little: every program on the way takes a frame at a time. So frames
shrink with the number of connections that transfer much, and further while somebody else is having a conversation. Times are seconds
of any steady clock.
"""

from __future__ import annotations

from typing import Final

from tenantry.protocol.tunnels.frames import MAX_DATA

WINDOW_S: Final = 1.0
"""What a connection does is looked at over one to two of these."""
MUCH: Final = 512 << 10
"""So many bytes in that time, both directions together, are a transfer."""
SMALL: Final = 4 << 10
"""A frame of at most so many bytes is something said."""
CONVERSATION: Final = 4
"""So many of them in that time, both directions together, are a conversation: two keys pressed and shown."""
TOGETHER: Final = 4 << 20
"""The frames of all transfers together, one of each, are no larger, as far as that is sensible."""
LEAST: Final = 256 << 10
"""A frame need not be smaller for that."""
BESIDE_TALK: Final = 128 << 10
"""The largest frame of a transfer beside a conversation."""


class Sharing:
    """The connections that share a way."""

    __slots__ = ("_largest", "_looked_at", "_talked_at", "_transfers")

    def __init__(self) -> None:
        self._transfers: dict[Talker, float] = {}
        self._largest = MAX_DATA
        self._looked_at = 0.0
        self._talked_at = -WINDOW_S

    def largest(self, now: float) -> int:
        """The largest payload of a frame of a transfer."""
        if now - self._looked_at >= WINDOW_S:
            self._looked_at = now
            self._transfers = {one: at for one, at in self._transfers.items() if now - at < 2 * WINDOW_S}
            self._count()
        return BESIDE_TALK if now - self._talked_at < WINDOW_S else self._largest

    def talked(self, now: float) -> None:
        """Somebody is having a conversation."""
        self._talked_at = now

    def transferred(self, talker: Talker, now: float) -> None:
        """A connection has transferred much in a short time."""
        known = talker in self._transfers
        self._transfers[talker] = now
        if not known:
            self._count()

    def forget(self, talker: Talker) -> None:
        """A connection is over."""
        if self._transfers.pop(talker, None) is not None:
            self._count()

    def _count(self) -> None:
        self._largest = min(MAX_DATA, max(LEAST, TOGETHER // max(1, len(self._transfers))))


class Talker:
    """One connection: how much it says, and in which pieces."""

    __slots__ = ("_before", "_bytes", "_much", "_pieces", "_pieces_before", "_sharing", "_since")

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._since = 0.0
        self._bytes = self._before = 0
        self._pieces = self._pieces_before = 0
        self._much = False

    def largest(self, now: float) -> int:
        """The largest payload of its next frame."""
        return self._sharing.largest(now)

    def passed(self, count: int, now: float) -> None:
        """So many bytes went through in one frame, in either direction."""
        passed_s = now - self._since
        if passed_s >= WINDOW_S:
            recent = passed_s < 2 * WINDOW_S
            self._before, self._pieces_before = (self._bytes, self._pieces) if recent else (0, 0)
            self._bytes = self._pieces = 0
            self._since = now
            self._much = self._before >= MUCH
            if self._much:
                self._sharing.transferred(self, now)
        self._bytes += count
        if self._much:
            return
        if self._bytes >= MUCH:
            self._much = True
            self._sharing.transferred(self, now)
        elif count <= SMALL:
            self._pieces += 1
            if self._pieces + self._pieces_before >= CONVERSATION:
                self._sharing.talked(now)

    def close(self) -> None:
        """It is over."""
        self._sharing.forget(self)
