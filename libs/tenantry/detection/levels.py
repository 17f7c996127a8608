"""Several thresholds on one series, ordered by how bad they are: one level for each moment, on event time.

Each level is a `Threshold` with a state of its own, and the level of a series is the worst one that fires. A value that goes
to and fro between two levels therefore does not restart the wait of the lower one, and a series that gets better falls from level
to level as each is cleared. What `thresholds` promises holds for each level by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from tenantry.detection.thresholds import INITIAL, Phase, Threshold, ThresholdState
from tenantry.protocol.failures import FieldInvalid


class Level(IntEnum):
    """How bad the value of a series is; the numbers are what is stored, and grow with it."""

    CLEARED = 0
    MINOR = 1
    MAJOR = 2
    CRITICAL = 3


LEVELS: Final = (Level.CRITICAL, Level.MAJOR, Level.MINOR)
"""The levels at which something is wrong, in the order in which they are checked."""

LevelStates = tuple[ThresholdState, ...]
"""The states of one series: one for each threshold, in the order of `LevelledThreshold.levels`."""


@dataclass(frozen=True, slots=True)
class LevelledThreshold:
    """Thresholds by level, one at least. Raises FieldInvalid.

    ``levels`` and ``thresholds`` have one entry each, the worst first. ``floor`` and ``ceiling`` bound what is quiet: a value
    strictly between them breaches no threshold, so a series that is `at_rest` need not be stepped for it.
    """

    by_level: Mapping[Level, Threshold]
    levels: tuple[Level, ...] = field(init=False)
    thresholds: tuple[Threshold, ...] = field(init=False)
    floor: float = field(init=False)
    ceiling: float = field(init=False)

    def __post_init__(self) -> None:
        levels = tuple(level for level in LEVELS if level in self.by_level)
        if not levels:
            raise FieldInvalid(field="thresholds", problem="are none", expected="critical, major or minor")
        thresholds = tuple(self.by_level[level] for level in levels)
        above = [one.fire_at for one in thresholds if one.operator in (">", ">=")]
        below = [one.fire_at for one in thresholds if one.operator in ("<", "<=")]
        for name, value in (
            ("levels", levels),
            ("thresholds", thresholds),
            ("floor", max(below, default=-math.inf)),
            ("ceiling", min(above, default=math.inf)),
        ):
            object.__setattr__(self, name, value)

    @property
    def initial(self) -> LevelStates:
        """The states of a new series."""
        return (INITIAL,) * len(self.levels)

    def step(self, states: LevelStates, value: float | None, timestamp_ms: int) -> LevelStates:
        """The states after a value; None and NaN change nothing."""
        return tuple(
            threshold.step(state, value, timestamp_ms)[0]
            for threshold, state in zip(self.thresholds, states, strict=True)
        )

    def calm(self, states: LevelStates, timestamp_ms: int) -> LevelStates:
        """The states after a moment at which nothing was wrong, whatever the value."""
        return tuple(
            threshold.step(state, -math.inf if threshold.operator in (">", ">=") else math.inf, timestamp_ms)[0]
            for threshold, state in zip(self.thresholds, states, strict=True)
        )

    def level(self, states: LevelStates) -> Level:
        """The worst level that fires."""
        for level, state in zip(self.levels, states, strict=True):
            if state.phase.firing:
                return level
        return Level.CLEARED


def at_rest(states: LevelStates) -> bool:
    """Whether nothing fires and nothing waits: a quiet value would change nothing but the time of the newest one."""
    return all(state.phase is Phase.OK for state in states)
