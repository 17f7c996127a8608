"""Levels: the worst threshold that fires, each with its own wait, and a quiet zone that is safe to skip."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.detection.levels import LEVELS, Level, LevelledThreshold, at_rest
from tenantry.detection.thresholds import Threshold
from tenantry.protocol.failures import FieldInvalid

Sample = tuple[int, float | None]

values = st.sampled_from([0.0, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0, math.inf, -math.inf, math.nan, None])
samples = st.lists(st.tuples(st.integers(0, 200), values), max_size=50)
waits = st.integers(0, 40)


@st.composite
def levelled(draw: st.DrawFn) -> LevelledThreshold:
    """Some levels upwards, some downwards, with margins and waits."""
    margin, for_ms, clear_ms = draw(st.sampled_from([0.0, 0.1])), draw(waits), draw(waits)
    chosen = draw(st.sets(st.sampled_from(LEVELS), min_size=1))
    limits = {Level.MINOR: 0.7, Level.MAJOR: 0.8, Level.CRITICAL: 0.9}
    thresholds = {}
    for level in chosen:
        operator = draw(st.sampled_from([">", ">=", "<", "<="]))
        fire = limits[level] if operator in (">", ">=") else 1 - limits[level]
        thresholds[level] = Threshold(
            operator, fire, fire - margin if operator in (">", ">=") else fire + margin, for_ms, clear_ms
        )
    return LevelledThreshold(thresholds)


def naive_levels(threshold: LevelledThreshold, sequence: list[Sample]) -> list[Level]:
    """The level after each sample, from the whole history each time: nothing incremental, nothing clever."""
    found: list[Level] = []
    for end in range(1, len(sequence) + 1):
        firing = [level for level, one in threshold.by_level.items() if _fires(one, sequence[:end])]
        found.append(max(firing, default=Level.CLEARED))
    return found


def _fires(threshold: Threshold, history: list[Sample]) -> bool:
    counted: list[tuple[int, float]] = []
    for timestamp_ms, value in history:
        if value is not None and not math.isnan(value) and (not counted or timestamp_ms > counted[-1][0]):
            counted.append((timestamp_ms, value))
    firing, begun = False, None
    for timestamp_ms, value in counted:
        breach = eval(f"value {threshold.operator} limit", {"value": value, "limit": threshold.fire_at})  # noqa: S307 - ours
        clear = not eval(f"value {threshold.operator} limit", {"value": value, "limit": threshold.clear_at})  # noqa: S307 - ours
        if not (clear if firing else breach):
            begun = None
            continue
        begun = timestamp_ms if begun is None else begun
        if timestamp_ms - begun >= (threshold.keep_for_ms if firing else threshold.for_ms):
            firing, begun = not firing, None
    return firing


def levels_of(threshold: LevelledThreshold, sequence: list[Sample]) -> list[Level]:
    """The level after each sample."""
    states, found = threshold.initial, []
    for timestamp_ms, value in sequence:
        states = threshold.step(states, value, timestamp_ms)
        found.append(threshold.level(states))
    return found


@given(levelled(), samples)
def test_the_level_is_that_of_the_whole_history(threshold: LevelledThreshold, sequence: list[Sample]) -> None:
    """Stepping value by value finds what somebody finds who reads everything again each time."""
    assert levels_of(threshold, sequence) == naive_levels(threshold, sequence)


@given(levelled(), samples)
def test_a_quiet_value_changes_nothing_of_a_series_at_rest(
    threshold: LevelledThreshold, sequence: list[Sample]
) -> None:
    """Who leaves out quiet values of series at rest finds the same levels at the same samples."""
    states, newest, found = threshold.initial, -1, []
    for timestamp_ms, value in sequence:
        late = timestamp_ms <= newest
        if value is not None and not math.isnan(value) and not late:
            newest = timestamp_ms
            if not (at_rest(states) and threshold.floor < value < threshold.ceiling):
                states = threshold.step(states, value, timestamp_ms)
        found.append(threshold.level(states))
    assert found == levels_of(threshold, sequence)


def test_a_value_that_swings_between_two_levels_does_not_restart_the_lower_one() -> None:
    """Major waits on while the value goes to critical and back, and critical waits for itself."""
    threshold = LevelledThreshold(
        {Level.CRITICAL: Threshold(">", 0.9, 0.9, 20), Level.MAJOR: Threshold(">", 0.8, 0.8, 20)}
    )
    assert levels_of(threshold, [(0, 0.95), (10, 0.85), (20, 0.95), (40, 0.95), (50, 0.85), (60, 0.1)]) == [
        Level.CLEARED,
        Level.CLEARED,
        Level.MAJOR,
        Level.CRITICAL,
        Level.MAJOR,
        Level.CLEARED,
    ]


def test_without_a_threshold_there_is_no_level() -> None:
    """At least one is needed."""
    with pytest.raises(FieldInvalid):
        LevelledThreshold({})
