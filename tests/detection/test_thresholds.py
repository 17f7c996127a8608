import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.detection.thresholds import (
    INITIAL,
    MOVES,
    RIPENING,
    Phase,
    Threshold,
    ThresholdState,
    Transition,
    Zone,
    read_state,
    restart_wait,
)
from tenantry.protocol.failures import FieldInvalid

FIRED, CLEARED = Transition.FIRED, Transition.CLEARED
Sample = tuple[int, float | None]
Event = tuple[int, Transition]

HIGH = Threshold(">=", 0.9, 0.8, for_ms=20, keep_for_ms=10)
BREACHES = (0.9, 0.95, math.inf)
BAND = (0.8, 0.85)
CLEAR = (0.0, 0.79, -math.inf)
NOTHING = (None, math.nan)

values = st.sampled_from(BREACHES + BAND + CLEAR + NOTHING)
samples = st.lists(st.tuples(st.integers(0, 300), values), max_size=60)
thresholds = st.builds(
    Threshold,
    operator=st.just(">="),
    fire_at=st.just(0.9),
    clear_at=st.sampled_from([0.8, 0.9]),
    for_ms=st.integers(0, 60),
    keep_for_ms=st.integers(0, 60),
    max_gap_ms=st.none() | st.integers(1, 60),
)


def run(
    threshold: Threshold, sequence: list[Sample], state: ThresholdState = INITIAL
) -> tuple[ThresholdState, list[Event]]:
    """The state after a sequence, and what happened when."""
    events: list[Event] = []
    for timestamp_ms, value in sequence:
        state, transition = threshold.step(state, value, timestamp_ms)
        if transition:
            events.append((timestamp_ms, transition))
    return state, events


def rising(sequence: list[Sample]) -> list[Sample]:
    """What counts of a sequence: values that say something and are newer than all before them."""
    kept: list[Sample] = []
    for timestamp_ms, value in sequence:
        if value is not None and not math.isnan(value) and (not kept or timestamp_ms > kept[-1][0]):
            kept.append((timestamp_ms, value))
    return kept


def test_the_table_is_complete() -> None:
    """Every phase knows what every zone means, and only waits ripen."""
    assert set(MOVES) == set(itertools.product(Phase, Zone))
    assert set(RIPENING) == {Phase.PENDING, Phase.CLEARING}


def test_the_band_is_the_same_side_as_before() -> None:
    """By the table: a value in the band never leads from not firing to firing or back."""
    assert all(MOVES[phase, Zone.BAND].firing == phase.firing for phase in Phase)


def test_a_life() -> None:
    """Raised after `for`, kept through the band, over after `keep_for`."""
    sequence: list[Sample] = [
        (0, 0.95),
        (10, 0.95),
        (20, 0.95),
        (30, 0.85),
        (40, 0.7),
        (45, 0.85),
        (50, 0.7),
        (60, 0.7),
    ]
    state, events = run(HIGH, sequence)
    assert events == [(20, FIRED), (60, CLEARED)]
    assert state == (Phase.OK, 60, 60)


def test_without_for_it_acts_at_once() -> None:
    """Both durations may be nothing."""
    assert run(Threshold(">", 1, 1, 0), [(5, 2.0), (6, 1.0)])[1] == [(5, FIRED), (6, CLEARED)]


@pytest.mark.parametrize(
    ("operator", "fire_at", "clear_at", "fires", "keeps", "clears"),
    [
        (">", 10, 8, 10.1, 10, 8),
        (">=", 10, 8, 10, 8, 7.9),
        ("<", 2, 4, 1.9, 2, 4),
        ("<=", 2, 4, 2, 4, 4.1),
        (">", 10, 10, 10.1, 10.1, 10),
        ("<=", 2, 2, 2, 2, 2.1),
    ],
)
def test_each_operator(
    operator: str, fire_at: float, clear_at: float, fires: float, keeps: float, clears: float
) -> None:
    """The borders belong where the operator says; between them nothing changes, on either side."""
    threshold = Threshold(operator, fire_at, clear_at, 0)
    assert run(threshold, [(1, clears)])[1] == []
    if keeps != fires:
        assert run(threshold, [(1, keeps)])[1] == []
    assert run(threshold, [(1, fires), (2, keeps), (3, clears)])[1] == [(1, FIRED), (3, CLEARED)]


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("operator", {"operator": "=="}),
        ("fire_at", {"fire_at": math.nan}),
        ("clear_at", {"clear_at": -math.inf}),
        ("clear_at", {"clear_at": 0.91}),
        ("clear_at", {"operator": "<", "clear_at": 0.89}),
        ("for", {"for_ms": -1}),
        ("keep_for", {"keep_for_ms": -1}),
        ("max_gap", {"max_gap_ms": 0}),
    ],
)
def test_nonsense_is_refused(field: str, settings: dict[str, object]) -> None:
    """A threshold that cannot work says which field is wrong."""
    with pytest.raises(FieldInvalid) as refused:
        Threshold(**{"operator": ">=", "fire_at": 0.9, "clear_at": 0.8, "for_ms": 0, **settings})  # type: ignore[arg-type]
    assert refused.value.metadata["field"] == field


def test_silence_changes_nothing() -> None:
    """An alert that fires goes on firing however long nothing is measured."""
    state, _ = run(HIGH, [(0, 0.95), (20, 0.95)])
    assert run(HIGH, [(10_000, None), (20_000, math.nan)], state) == (state, [])


def test_a_wait_does_not_bridge_a_gap() -> None:
    """Two breaches with a long silence between are not a long breach; without a limit they are."""
    sequence: list[Sample] = [(0, 0.95), (1_000, 0.95), (1_010, 0.95), (1_020, 0.95)]
    assert run(Threshold(">=", 0.9, 0.8, 20, max_gap_ms=30), sequence)[1] == [(1_020, FIRED)]
    assert run(Threshold(">=", 0.9, 0.8, 20), sequence)[1] == [(1_000, FIRED)]


def test_a_corrected_clock_restarts_what_waits() -> None:
    """After a step of the clock, values count again, and `for` is counted by the new time."""
    state, _ = run(HIGH, [(1_000, 0.95), (1_010, 0.95)])
    state = restart_wait(state, 100)
    assert run(HIGH, [(100, 0.95), (110, 0.95), (120, 0.95)], state)[1] == [(120, FIRED)]


@given(thresholds, samples)
def test_fired_and_cleared_alternate(threshold: Threshold, sequence: list[Sample]) -> None:
    """Never two FIRED without a CLEARED between, and the phase says which was last."""
    state, events = run(threshold, sequence)
    assert [transition for _, transition in events] == [FIRED, CLEARED] * (len(events) // 2) + [FIRED] * (
        len(events) % 2
    )
    assert state.phase.firing == (len(events) % 2 == 1)


@given(thresholds, samples)
def test_never_before_its_time(threshold: Threshold, sequence: list[Sample]) -> None:
    """Each transition stands on an unbroken run of values of its own zone that is long enough and without a gap."""
    counted = rising(sequence)
    for at, transition in run(threshold, sequence)[1]:
        needed = threshold.for_ms if transition is FIRED else threshold.keep_for_ms

        def stands(value: float | None, transition: Transition = transition) -> bool:
            return value is not None and (value >= 0.9 if transition is FIRED else value < threshold.clear_at)

        start = at
        for (later, _), (time, value) in itertools.pairwise(reversed([one for one in counted if one[0] <= at])):
            if not stands(value) or (threshold.max_gap_ms is not None and later - time > threshold.max_gap_ms):
                break
            start = time
        assert stands(dict(counted)[at])
        assert at - start >= needed


@given(thresholds, samples)
def test_what_must_fire_fires(threshold: Threshold, sequence: list[Sample]) -> None:
    """A breach that lasts for `for` without a gap is always found, whatever came before."""
    state, _ = run(threshold, sequence)
    start = state.last_ms + 1 if state.last_ms >= 0 else 0
    steady: list[Sample] = [(start + offset, 0.95) for offset in range(threshold.for_ms + 1)]
    assert run(threshold, steady, state)[0].phase is Phase.FIRING


@given(thresholds, samples, samples)
def test_the_band_never_flips(threshold: Threshold, sequence: list[Sample], more: list[Sample]) -> None:
    """No sequence of values in the band brings about anything, from any state that can be reached."""
    state, _ = run(threshold, sequence)
    if threshold.clear_at < threshold.fire_at:
        following, events = run(threshold, [(at + 300, 0.85) for at, _ in more], state)
        assert events == []
        assert following.phase.firing == state.phase.firing


@given(thresholds, samples)
def test_only_the_rising_part_counts(threshold: Threshold, sequence: list[Sample]) -> None:
    """Late, repeated and empty values are as if they had never come."""
    state, events = run(threshold, sequence)
    assert (state, events) == run(threshold, rising(sequence))


@given(thresholds, samples, st.integers(0, 60))
def test_a_replay_changes_nothing(threshold: Threshold, sequence: list[Sample], from_index: int) -> None:
    """Delivering the end of a sequence again has no effect."""
    state, _ = run(threshold, sequence)
    assert run(threshold, sequence[from_index:], state) == (state, [])


@given(thresholds, samples, st.integers(0, 60))
def test_a_state_survives_being_stored(threshold: Threshold, sequence: list[Sample], cut: int) -> None:
    """Stopping anywhere, storing the state as JSON and going on is the same as going on."""
    before, first = run(threshold, sequence[:cut])
    stored = read_state(json.loads(json.dumps(before)))
    assert stored == before
    after, second = run(threshold, sequence[cut:], stored)
    assert (after, first + second) == run(threshold, sequence)


@pytest.mark.parametrize("stored", [None, [], [0, 1], [9, 0, 0], [True, 0, 0], [0, 0.5, 1], [1, 10, 2], "012"])
def test_a_damaged_state_is_refused(stored: object) -> None:
    """What is not a state is not taken for one."""
    with pytest.raises(FieldInvalid):
        read_state(stored)
