"""The life cycle of alerts, and how firings fill them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.detection.levels import Level
from tenantry.master.domain.alerts import (
    ALERT_STATUS,
    KEPT_COPIES,
    MAX_COPIES,
    MAX_STANDING,
    TARGETS,
    Alert,
    AlertEvent,
    AlertSource,
    AlertStatus,
    ChangeKind,
    Firing,
    advance,
    copy_slot,
    fill,
    opened,
    series_key,
)
from tenantry.protocol.failures import AlertInWrongStatus


def firing(
    series: str = "", *, at: int = 0, over: bool = False, level: Level | None = Level.MAJOR, late: bool = False
) -> Firing:
    """One of a rule."""
    return Firing(1, 1, AlertSource.RULE, "rule", "uid", 5, "message", at, level, series, over, late)


def new() -> Alert:
    """An alert that nothing has filled yet."""
    return opened(firing(), "uid", 0)


@given(st.lists(st.sampled_from(AlertEvent), max_size=12))
def test_a_status_is_left_only_as_the_table_says(events: list[AlertEvent]) -> None:
    """Any sequence of events: what is refused says what would be allowed, and changes nothing."""
    alert = new()
    for event in events:
        allowed = {one for status, one in ALERT_STATUS if status is alert.status}
        if event in allowed or TARGETS.get(event) is alert.status:
            after = advance(alert, event)
            assert after is ALERT_STATUS.get((alert.status, event), alert.status)
            alert = replace(alert, status=after)
            continue
        with pytest.raises(AlertInWrongStatus) as refused:
            advance(alert, event)
        assert set(refused.value.metadata["allowed"].split(", ")) == {one.value for one in allowed}


def test_from_each_status_all_others_can_be_reached() -> None:
    """Nothing is a dead end, and a resolved alert can only be reopened."""
    reached = {status: {status} for status in AlertStatus}
    for _ in AlertStatus:
        for (before, _event), after in ALERT_STATUS.items():
            for seen in reached.values():
                if before in seen:
                    seen.add(after)
    assert all(seen >= set(AlertStatus) - {AlertStatus.NEW} for seen in reached.values())
    assert [event for status, event in ALERT_STATUS if status is AlertStatus.RESOLVED] == [AlertEvent.REOPENED]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([Level.MINOR, Level.CRITICAL]), st.booleans()),
        max_size=20,
    )
)
def test_an_alert_knows_what_stands(told: list[tuple[str, bool, Level, bool]]) -> None:
    """For any order of firings and ends: what stands, how often it fired, what was worst, when it was over."""
    alert, standing, fired = fill(new(), firing("begin"), 0).alert, {"begin": Level.MAJOR}, [(0, Level.MAJOR)]
    for at, (series, over, level, late) in enumerate(told, 1):
        stood = bool(standing)
        filled = fill(alert, firing(series, at=at, over=over, level=level, late=late), at)
        alert = filled.alert
        if over:
            ended = standing.pop(series, None) is not None
            assert (filled.change is ChangeKind.OVER) == (ended and not standing)
        else:
            standing[series] = level
            fired.append((at, level))
            assert (filled.change is ChangeKind.AGAIN) <= (not stood)
    assert {key: Level(level) for key, level in alert.standing.items()} == {
        series_key(series): level for series, level in standing.items()
    }
    assert alert.standing_level == max(standing.values(), default=None)
    assert (alert.count, alert.last_ms) == (len(fired), fired[-1][0])
    assert alert.level == max(level for _, level in fired)
    assert (alert.over_ms is None) == bool(standing)


def test_late_firings_widen_an_alert_and_are_counted() -> None:
    """One that happened before the first moves the begin; an alert of late ones alone was found late."""
    late = fill(new(), firing(at=-60, late=True), 0).alert
    assert late.found_late
    both = fill(late, firing("b", at=50), 50).alert
    assert (both.first_ms, both.last_ms, both.late_count, both.found_late) == (-60, 50, 1, False)


def test_series_without_number_do_not_fill_the_memory() -> None:
    """Beyond the bound they are counted, and nothing waits for their end."""
    alert = new()
    for number in range(MAX_STANDING + 5):
        alert = fill(alert, firing(str(number), at=number), number).alert
    assert (len(alert.standing), alert.count) == (MAX_STANDING, MAX_STANDING + 5)
    assert fill(alert, firing(str(MAX_STANDING + 1), over=True), 9).alert is alert


@pytest.mark.parametrize("copies", [0, KEPT_COPIES - 1, KEPT_COPIES, MAX_COPIES, 10_000])
def test_the_first_copies_stay_and_the_newest_take_turns(copies: int) -> None:
    """After so many copies the next has a place within the bound, and never one of the first."""
    slot = copy_slot(copies)
    assert 0 <= slot < MAX_COPIES
    assert (slot < KEPT_COPIES) == (copies < KEPT_COPIES)
