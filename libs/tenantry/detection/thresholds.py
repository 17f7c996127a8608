"""A threshold with hysteresis and ``for``: one small state machine for each series, on event time.

A value falls into one of three zones: BREACH (it holds the operator against ``fire_at``), CLEAR (it does not even hold it
against ``clear_at``), and BAND between them. `MOVES` says where each zone leads from each phase; `RIPENING` says which
phases become another after a while, and what has then happened::

    OK ──BREACH──▶ PENDING ──for_ms──▶ FIRING ──CLEAR──▶ CLEARING ──keep_for_ms──▶ OK
     ◀──BAND, CLEAR──┘                    ◀──BREACH, BAND──┘

What holds for any sequence of values:

- FIRED and CLEARED alternate, and FIRED comes first.
- FIRED needs breaches only, from its first to its last value, at least ``for_ms`` apart in event time; the same for CLEARED
  with CLEAR values and ``keep_for_ms``. Values in the band never fire and never clear; they end a wait of either kind.
- Values that say nothing (None, NaN) are as if they had not been taken. Silence alone changes nothing: an alert that
  fires goes on firing.
- Values that are not newer than the newest one seen (late ones, duplicates, replays) change nothing. A sequence in any order
  has thus the outcome of its strictly rising part: each value that is newer than everything before it. Delivering a
  sequence twice has the outcome of delivering it once. It is *not* claimed that a late value is worked in afterwards.
- With ``max_gap_ms``, a wait does not bridge a silence: when two values are further apart than that, PENDING and CLEARING
  start again at the later one, because nobody knows what was between them. Choose it well above the interval of the
  series: a series that is always slower than ``max_gap_ms`` could never get through a ``for_ms`` longer than nothing.

A value from the far future would make every true value after it look late. Whoever takes times from others bounds
them before; whoever corrects his own clock calls `restart_wait`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from tenantry.protocol.failures import FieldInvalid


class Phase(IntEnum):
    """Where a threshold stands; the numbers are what is stored."""

    OK = 0
    PENDING = 1
    FIRING = 2
    CLEARING = 3

    @property
    def firing(self) -> bool:
        """Whether the alert stands."""
        return self in (Phase.FIRING, Phase.CLEARING)


class Zone(IntEnum):
    """What a value means."""

    BREACH = 0
    BAND = 1
    CLEAR = 2


class Transition(Enum):
    """What a step can bring about."""

    FIRED = "fired"
    CLEARED = "cleared"


class ThresholdState(NamedTuple):
    """State of one series.

    ``since_ms`` is the time of the first value of the present wait (PENDING, CLEARING) and of the phase otherwise,
    ``last_ms`` that of the newest value. A tuple of three integers, so that thousands stay cheap to hold and to store.
    """

    phase: Phase
    since_ms: int
    last_ms: int


# Before any value: every time is newer than this one.
INITIAL: Final = ThresholdState(Phase.OK, -(2**63), -(2**63))

MOVES: Final[dict[tuple[Phase, Zone], Phase]] = {
    (Phase.OK, Zone.BREACH): Phase.PENDING,
    (Phase.OK, Zone.BAND): Phase.OK,
    (Phase.OK, Zone.CLEAR): Phase.OK,
    (Phase.PENDING, Zone.BREACH): Phase.PENDING,
    (Phase.PENDING, Zone.BAND): Phase.OK,
    (Phase.PENDING, Zone.CLEAR): Phase.OK,
    (Phase.FIRING, Zone.BREACH): Phase.FIRING,
    (Phase.FIRING, Zone.BAND): Phase.FIRING,
    (Phase.FIRING, Zone.CLEAR): Phase.CLEARING,
    (Phase.CLEARING, Zone.BREACH): Phase.FIRING,
    (Phase.CLEARING, Zone.BAND): Phase.FIRING,
    (Phase.CLEARING, Zone.CLEAR): Phase.CLEARING,
}

RIPENING: Final[dict[Phase, tuple[Phase, Transition]]] = {
    Phase.PENDING: (Phase.FIRING, Transition.FIRED),
    Phase.CLEARING: (Phase.OK, Transition.CLEARED),
}

OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

# The same table by position: a step costs a fraction of a microsecond, and a commit of the Master takes thousands.
_ROWS: Final = tuple(tuple(MOVES[phase, zone] for zone in Zone) for phase in Phase)


@dataclass(frozen=True, slots=True)
class Threshold:
    """When a value is bad, when it is good again, and for how long either must hold.

    ``operator`` is one of `OPERATORS`; it fires while ``value operator fire_at`` and is over once ``value operator
    clear_at`` is false too, so ``clear_at`` lies on the harmless side of ``fire_at`` or equals it. Durations are in
    milliseconds; 0 acts on the first value. Raises FieldInvalid.
    """

    operator: str
    fire_at: float
    clear_at: float
    for_ms: int
    keep_for_ms: int = 0
    max_gap_ms: int | None = None
    _beyond: Callable[[float, float], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise FieldInvalid(
                field="operator", problem=f"is {self.operator!r}", expected=f"one of {' '.join(OPERATORS)}"
            )
        for name, value in (("fire_at", self.fire_at), ("clear_at", self.clear_at)):
            if not math.isfinite(value):
                raise FieldInvalid(field=name, problem=f"is {value}", expected="a finite number")
        for name, duration in (("for", self.for_ms), ("keep_for", self.keep_for_ms)):
            if duration < 0:
                raise FieldInvalid(field=name, problem=f"is {duration} ms", expected="0 or more")
        if self.max_gap_ms is not None and self.max_gap_ms <= 0:
            raise FieldInvalid(field="max_gap", problem=f"is {self.max_gap_ms} ms", expected="more than 0")
        upward = self.operator in (">", ">=")
        if (self.clear_at > self.fire_at) if upward else (self.clear_at < self.fire_at):
            raise FieldInvalid(
                field="clear_at",
                problem=f"is {self.clear_at:g}, on the wrong side of fire_at",
                expected=f"{'at most' if upward else 'at least'} {self.fire_at:g}",
            )
        object.__setattr__(self, "_beyond", OPERATORS[self.operator])

    def step(
        self, state: ThresholdState, value: float | None, timestamp_ms: int
    ) -> tuple[ThresholdState, Transition | None]:
        """The state after a value, and what has happened. The state of a new series is `INITIAL`."""
        phase, since_ms, last_ms = state
        # A NaN is the one value that differs from itself.
        if timestamp_ms <= last_ms or value is None or value != value:
            return state, None
        zone = 0 if self._beyond(value, self.fire_at) else 1 if self._beyond(value, self.clear_at) else 2
        following = _ROWS[phase][zone]
        if following is not phase:
            since_ms = timestamp_ms
        if following in RIPENING:
            if self.max_gap_ms is not None and timestamp_ms - last_ms > self.max_gap_ms:
                since_ms = timestamp_ms
            needed_ms = self.for_ms if following is Phase.PENDING else self.keep_for_ms
            if timestamp_ms - since_ms >= needed_ms:
                ripe, transition = RIPENING[following]
                return ThresholdState(ripe, timestamp_ms, timestamp_ms), transition
        return ThresholdState(following, since_ms, timestamp_ms), None


def restart_wait(state: ThresholdState, timestamp_ms: int) -> ThresholdState:
    """The state after a clock was set: the same phase, and whatever waits begins to wait with the next value.

    ``timestamp_ms`` is the time of that next value by the corrected clock.
    """
    return ThresholdState(state.phase, timestamp_ms, timestamp_ms - 1)


def read_state(values: object) -> ThresholdState:
    """The state that was stored as a sequence of three integers, for instance in JSON. Raises FieldInvalid."""
    if (
        isinstance(values, (list, tuple))
        and len(values) == 3
        and all(isinstance(number, int) and not isinstance(number, bool) for number in values)
        and values[0] in set(Phase)
        and values[1] <= values[2] + 1
    ):
        return ThresholdState(Phase(values[0]), values[1], values[2])
    raise FieldInvalid(field="state", problem="is not one of a threshold", expected="phase, since_ms, last_ms")
