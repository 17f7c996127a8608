"""What a Master holds of a connection through a tunnel: one direction's credits, passed on no faster than its data is taken.

An end that allows much and takes nothing would otherwise fill the Master's memory. So a sender is told little at first where there are
many connections already, and more only while its receiver takes. Bytes here are of payload.
"""

from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, LARGEST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import EARLY_BYTES, allow_more

K = TypeVar("K", bound=Hashable)

_LEAST: Final = 4
"""A credit is passed on once it is a fourth of the window, or all that there is."""


class Room:
    """What windows may have beyond the least, at one Tenant and at all together."""

    __slots__ = ("_all", "_own")

    def __init__(self, own: Budget, together: Budget) -> None:
        self._own = own
        self._all = together

    def take(self, wanted: int) -> int:
        """Take so much or less."""
        given = self._own.take(wanted)
        if not given:
            return 0
        shared = self._all.take(given)
        self._own.give(given - shared)
        return shared

    def begin(self) -> int:
        """What a window begins with beyond the least: what makes a `FIRST_WINDOW` while three quarters of the room are free."""
        if any(4 * budget.left < 3 * budget.total for budget in (self._own, self._all)):
            return 0
        return self.take(FIRST_WINDOW - EARLY_BYTES)

    def give(self, taken: int) -> None:
        """Give back what was taken."""
        self._own.give(taken)
        self._all.give(taken)


class Passage:
    """One direction of a connection: what its receiver has allowed, what its sender was told of it, and what went through."""

    __slots__ = ("_allowed", "_drained", "_passed", "_received", "_room", "_taken", "_told", "_window")

    def __init__(self, window: int, room: Room) -> None:
        """``window``: what the receiver takes before it allows more."""
        self._allowed = window
        self._room = room
        self._taken = room.begin()
        self._window = EARLY_BYTES + self._taken
        self._told = min(window, self._window)
        self._received = 0
        self._passed = 0
        self._drained = 0

    @property
    def told(self) -> int:
        """What the sender may send altogether."""
        return self._told

    @property
    def held(self) -> int:
        """What came and was not taken yet."""
        return self._received - self._passed

    def receive(self, count: int) -> None:
        """So much came. Raises TunnelProtocolViolated where it is more than the sender was told."""
        self._received += count
        if self._received > self._told:
            raise TunnelProtocolViolated(problem=f"{self._received - self._told} bytes more than were allowed")

    def allow(self, count: int) -> None:
        """The receiver allows so much more. Raises TunnelProtocolViolated where that is nothing, or more than may ever be allowed."""
        self._allowed = self._received + allow_more(self._allowed - self._received, count)

    def passed(self, count: int) -> None:
        """So much was taken. A receiver that takes a window's worth and allows more than the sender is told makes the window grow.

        While it takes less than comes, most of a window waits here: a larger one would only be more that waits.
        """
        self._passed += count
        self._drained += count
        if self._drained < self._window or self.held > self._window // 2:
            return
        self._drained = 0
        if self._allowed > self._told and self._window < LARGEST_WINDOW:
            more = self._room.take(min(self._window, LARGEST_WINDOW - self._window))
            self._window += more
            self._taken += more

    def credit(self) -> int:
        """What the sender can be told to send more than it was told so far; 0: nothing, or not yet worth a message."""
        owed = self._allowed - self._told
        more = min(owed, self._window - (self._told - self._passed))
        if more <= 0 or (more < owed and more < self._window // _LEAST):
            return 0
        self._told += more
        return more

    def close(self) -> None:
        """The connection is over."""
        self._room.give(self._taken)
        self._taken = 0


def too_much(waiting: Mapping[K, tuple[str, int]], most: int) -> list[K]:
    """Which connections to end so that no more than ``most`` bytes wait; ``waiting``: each one's Tenant, and what waits of it.

    One after the other the one that holds most, of the Tenant that holds most then: who fills the memory pays for it.
    """
    held: dict[str, int] = {}
    largest: dict[str, list[tuple[int, K]]] = {}
    for one, (tenant, count) in waiting.items():
        held[tenant] = held.get(tenant, 0) + count
        largest.setdefault(tenant, []).append((count, one))
    for connections in largest.values():
        connections.sort(key=lambda pair: pair[0])
    left, found = sum(held.values()), []
    while left > most:
        tenant = max(held, key=held.__getitem__)
        count, one = largest[tenant].pop()
        held[tenant] -= count
        left -= count
        found.append(one)
    return found
