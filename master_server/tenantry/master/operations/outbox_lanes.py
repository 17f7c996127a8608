"""Whose turn it is: receivers share a few places fairly, and those that fail or are slow share others.

Each receiver is a lane of its own: one thing after the other. A place is held for a turn, not for as long as there is something to
send. Times are steady milliseconds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

SLOW_MS = 2_000
"""An attempt that takes longer makes its lane a slow one until an attempt is quick again."""


@dataclass(slots=True)
class Lane:
    """One receiver (the store's number) for which something waits. ``failures``: in a row; ``rests_until_ms``: not before this."""

    receiver_id: int
    owner: int
    failures: int = 0
    slow: bool = False
    rests_until_ms: int = 0
    busy: bool = False

    @property
    def troubled(self) -> bool:
        """Whether it takes one of the other places."""
        return self.slow or self.failures > 0


@dataclass(slots=True)
class _Places:
    most: int
    per_owner: int
    held: dict[int, int] = field(default_factory=dict)

    def has_room(self, owner: int) -> bool:
        return sum(self.held.values()) < self.most and self.held.get(owner, 0) < self.per_owner

    def take(self, owner: int) -> None:
        self.held[owner] = self.held.get(owner, 0) + 1

    def leave(self, owner: int) -> None:
        self.held[owner] -= 1
        if not self.held[owner]:
            del self.held[owner]


class Lanes:
    """Which lanes may have a turn now. Owners take turns, and so do the lanes of one."""

    def __init__(self, concurrency: int, per_owner: int) -> None:
        """``concurrency`` places, of which one owner has ``per_owner`` at most; half as many more for lanes in trouble."""
        self._sound = _Places(concurrency, per_owner)
        self._troubled = _Places(max(1, concurrency // 2), max(1, per_owner // 2))
        self._lanes: dict[int, Lane] = {}
        self._turns = 0
        self._last_turn: dict[int, int] = {}
        self._last_turn_of_owner: dict[int, int] = {}
        self._places: dict[int, _Places] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def busy(self) -> int:
        """How many have a turn now."""
        return len(self._places)

    def begin(self, due: Collection[tuple[int, int]], now_ms: int) -> list[Lane]:
        """The lanes whose turn begins now, of these receivers with their owners, for which something is due."""
        wanted = [
            lane
            for receiver_id, owner in due
            if not (lane := self._lane(receiver_id, owner)).busy and lane.rests_until_ms <= now_ms
        ]
        by_owner: dict[int, list[Lane]] = {}
        for lane in sorted(wanted, key=lambda lane: self._last_turn.get(lane.receiver_id, 0)):
            by_owner.setdefault(lane.owner, []).append(lane)
        begun: list[Lane] = []
        progress = True
        while progress:
            progress = False
            for owner in sorted(by_owner, key=lambda one: self._last_turn_of_owner.get(one, 0)):
                found = self._first_with_room(by_owner[owner])
                if found is not None:
                    by_owner[owner].remove(found)
                    self._take(found)
                    begun.append(found)
                    progress = True
        return begun

    def end(self, lane: Lane) -> None:
        """A turn is over."""
        lane.busy = False
        self._places.pop(lane.receiver_id).leave(lane.owner)

    def wakes_ms(self, due: Sequence[tuple[int, int]]) -> int | None:
        """When the first of these receivers that only rests is to be looked at again; None where none rests."""
        resting = [
            lane.rests_until_ms for number, _ in due if (lane := self._lanes.get(number)) is not None and not lane.busy
        ]
        return min((one for one in resting if one), default=None)

    def keep(self, receivers: Collection[int]) -> None:
        """Forget what is known of others than these and those that have a turn."""
        kept = frozenset(receivers)
        for number in [one for one, lane in self._lanes.items() if one not in kept and not lane.busy]:
            del self._lanes[number]
            self._last_turn.pop(number, None)
        owners = {lane.owner for lane in self._lanes.values()}
        for owner in [one for one in self._last_turn_of_owner if one not in owners]:
            del self._last_turn_of_owner[owner]

    def _lane(self, receiver_id: int, owner: int) -> Lane:
        lane = self._lanes.get(receiver_id)
        if lane is None:
            lane = self._lanes[receiver_id] = Lane(receiver_id, owner)
        return lane

    def _first_with_room(self, lanes: Sequence[Lane]) -> Lane | None:
        return next((lane for lane in lanes if self._of(lane).has_room(lane.owner)), None)

    def _take(self, lane: Lane) -> None:
        self._turns += 1
        self._last_turn[lane.receiver_id] = self._last_turn_of_owner[lane.owner] = self._turns
        lane.busy = True
        places = self._places[lane.receiver_id] = self._of(lane)
        places.take(lane.owner)

    def _of(self, lane: Lane) -> _Places:
        return self._troubled if lane.troubled else self._sound
