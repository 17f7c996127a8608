"""Windows that overlap, over event time: what they hold, when they are judged, and that neither order nor portions change it."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.detection.aggregates import MAX_KEPT, Aggregate, Function, Value, WindowFull
from tenantry.detection.windows import (
    MAX_CATEGORIES,
    Admission,
    Category,
    Judged,
    TenantWindows,
    WindowShape,
)
from tenantry.protocol.failures import FieldInvalid

A: Category = ("a",)
COUNT = Aggregate("n", Function.COUNT)
EVERY = (
    COUNT,
    Aggregate("sum", Function.SUM, "v"),
    Aggregate("avg", Function.AVG, "v"),
    Aggregate("min", Function.MIN, "v"),
    Aggregate("max", Function.MAX, "v"),
    Aggregate("first", Function.FIRST, "v"),
    Aggregate("last", Function.LAST, "v"),
    Aggregate("dc", Function.DC, "v"),
    Aggregate("prc", Function.PRC, "v", 75),
)


def nobody(_: Category) -> bool:
    """Nothing stands anywhere."""
    return False


def everybody(_: Category) -> bool:
    """Something stands everywhere."""
    return True


def shape(
    window: int = 30, interval: int = 10, lateness: int = 0, *aggregates: Aggregate, settle: int = 0
) -> WindowShape:
    """Windows of so many milliseconds."""
    return WindowShape(window, interval, lateness, aggregates or (COUNT,), settle)


def feed(
    windows: TenantWindows,
    records: Sequence[tuple[int, Category, Value]],
    width: int = 1,
    unsettled: Callable[[Category], bool] = nobody,
) -> list[Judged]:
    """Records one after the other, judged as soon as they let it."""
    found: list[Judged] = []
    for at, category, value in records:
        windows.add(at, category, (value,) * width)
        if windows.due:
            found += windows.advance(unsettled)
    return found


def test_a_window_is_judged_once_when_the_newest_record_lies_behind_its_end() -> None:
    """Three records in a stretch count in three windows."""
    windows = TenantWindows(shape())
    assert feed(windows, [(1, A, 1.0), (2, A, 1.0), (9, A, 1.0)]) == []
    assert feed(windows, [(10, A, 1.0)]) == [Judged(10, A, (3.0,))]
    assert feed(windows, [(45, A, 1.0)]) == [Judged(20, A, (4.0,)), Judged(30, A, (4.0,)), Judged(40, A, (1.0,))]
    assert windows.judged_ms == 40


def test_lateness_waits_and_what_is_later_counts_nowhere() -> None:
    """A record may come behind a newer one by the declared lateness, and not by more."""
    windows = TenantWindows(shape(10, 10, 5))
    assert feed(windows, [(3, A, 1.0), (12, A, 1.0), (8, A, 1.0)]) == []
    assert feed(windows, [(15, A, 1.0)]) == [Judged(10, A, (2.0,))]
    assert windows.add(9, A, (1.0,)) is Admission.LATE
    assert list(windows.advance(nobody, 20)) == [Judged(20, A, (2.0,))]


def test_every_aggregate_over_stretches_is_the_one_over_their_records() -> None:
    """Absent values are in the count of records alone."""
    windows = TenantWindows(shape(30, 10, 0, *EVERY))
    feed(windows, [(1, A, 4.0), (2, A, None), (11, A, 1.0), (12, A, 2.0), (25, A, 2.0)], len(EVERY))
    (judged,) = windows.advance(nobody, 30)
    assert judged.values == (5.0, 9.0, 2.25, 1.0, 4.0, 4.0, 2.0, 3.0, 2.5)


def test_what_stands_is_judged_until_waiting_can_change_nothing_and_at_the_end() -> None:
    """Without records: for as long as thresholds wait, then only where the watermark is, however far that lies."""
    windows = TenantWindows(shape(10, 10, 0, settle=20))
    feed(windows, [(5, A, 1.0)], unsettled=everybody)
    ends = [judged.end_ms for judged in windows.advance(everybody, 10_000_000)]
    assert ends == [10, 20, 30, 40, 50, 10_000_000]
    assert [judged.values for judged in windows.advance(everybody, 10_000_020)] == [(0.0,)]
    assert list(windows.advance(nobody, 10_000_030)) == []


def test_what_stands_from_an_earlier_life_is_judged_without_records() -> None:
    """After a restart: nothing came, so it is over."""
    windows = TenantWindows(shape(10, 10))
    windows.expect(A)
    assert list(windows.advance(everybody, 50)) == []
    windows.begin(40)
    assert list(windows.advance(everybody, 50)) == [Judged(50, A, (0.0,))]
    assert windows.add(39, A, (1.0,)) is Admission.LATE


def test_a_tenant_that_invents_categories_or_values_is_bounded() -> None:
    """Others of the same Tenant go on; what is too much is said."""
    windows = TenantWindows(shape(10, 10, 0, Aggregate("dc", Function.DC, "v")))
    for number in range(MAX_CATEGORIES):
        assert windows.add(1, (str(number),), (1.0,)) is Admission.TAKEN
    assert windows.add(1, ("one more",), (1.0,)) is Admission.FULL
    assert windows.add(1, ("0",), (2.0,)) is Admission.TAKEN
    assert {windows.add(1, ("0",), (float(n),)) for n in range(MAX_KEPT + 1)} == {Admission.TAKEN, Admission.FULL}
    wide = TenantWindows(shape(20, 10, 0, Aggregate("p", Function.PRC, "v")))
    for at in (1, 11):
        for n in range(MAX_KEPT // 2 + 1):
            wide.add(at, A, (float(n),))
    with pytest.raises(WindowFull):
        list(wide.advance(nobody, 20))


RECORDS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from([("a",), ("b",)]), st.none() | st.integers(-5, 5).map(float)),
    max_size=60,
)


@given(RECORDS, st.sampled_from([(10, 10), (30, 10), (60, 20)]), st.lists(st.integers(1, 7), max_size=30))
def test_portions_change_nothing_and_values_are_those_of_the_records_themselves(
    records: list[tuple[int, Category, Value]], cut: tuple[int, int], portions: list[int]
) -> None:
    """In order of time: judged at each record or in any portions, the outcome is that of counting each window anew."""
    records = sorted(records, key=lambda record: record[0])
    window, interval = cut
    at_once = TenantWindows(shape(window, interval, 0, *EVERY))
    found = feed(at_once, records, len(EVERY))
    found += at_once.advance(nobody, 1_000)
    portioned, rest = TenantWindows(shape(window, interval, 0, *EVERY)), list(records)
    judged: list[Judged] = []
    for portion in [*portions, len(records)]:
        for at, category, value in rest[:portion]:
            if portioned.due:
                judged += portioned.advance(nobody)
            portioned.add(at, category, (value,) * len(EVERY))
        rest = rest[portion:]
    judged += portioned.advance(nobody, 1_000)
    assert judged == found
    for end, category, values in found:
        inside = [value for at, own, value in records if own == category and end - window <= at < end]
        present = sorted(value for value in inside if isinstance(value, float))
        assert inside
        assert values[0] == len(inside)
        assert values[1] == sum(present)
        assert values[3] == (present[0] if present else None)
        assert values[4] == (present[-1] if present else None)
        assert values[7] == len(set(present))
        assert values[8] == (pytest.approx(float(np.percentile(present, 75))) if present else None)


SUMMED = EVERY[:7]
"""Those of which a summary says everything."""


@given(RECORDS, st.lists(st.integers(0, 60), max_size=5))
def test_windows_that_are_kept_and_resumed_go_on_as_if_nothing_had_been(
    records: list[tuple[int, Category, Value]], cuts: list[int]
) -> None:
    """In any order of records; what cannot be kept as sums says so."""
    through, moved = TenantWindows(shape(30, 10, 5, *SUMMED)), TenantWindows(shape(30, 10, 5, *SUMMED))
    expected, found = [], []
    for number, (at, category, value) in enumerate(records):
        expected += feed(through, [(at, category, value)], len(SUMMED))
        found += feed(moved, [(at, category, value)], len(SUMMED))
        kept = moved.keep(nobody) if number in cuts else None
        if kept is not None:
            moved = TenantWindows.resume(shape(30, 10, 5, *SUMMED), kept)
    assert [*found, *moved.advance(nobody, 1_000)] == [*expected, *through.advance(nobody, 1_000)]


def test_what_stands_or_is_no_sum_is_not_kept() -> None:
    """Neither windows in which something waits, nor values that are needed one by one, nor records without a value."""
    windows = TenantWindows(shape(30, 10, 0, *SUMMED))
    assert windows.keep(nobody) is None
    windows.add(1, A, (1.0,) * len(SUMMED))
    kept = windows.keep(nobody)
    assert kept is not None
    assert kept.stretches[A][0] == (1, 1.0, 1.0, 1.0, (1, 1.0), (1, 1.0))
    assert windows.keep(everybody) is None
    windows.add(2, A, (None,) * len(SUMMED))
    assert windows.keep(nobody) is None
    single = TenantWindows(shape(30, 10, 0, EVERY[8]))
    single.add(1, A, (1.0,))
    assert single.keep(nobody) is None


def test_sums_that_are_too_large_say_nothing() -> None:
    """However they come to be: within a stretch or over several."""
    windows = TenantWindows(shape(30, 10, 0, *EVERY))
    feed(windows, [(at, A, 1.7e308) for at in (1, 2, 11, 12)], len(EVERY))
    (first,) = windows.advance(nobody, 20)
    assert (first.values[1], first.values[2]) == (None, None)
    windows = TenantWindows(shape(30, 10, 0, *EVERY))
    feed(windows, [(1, A, 1.7e308), (11, A, 1.7e308), (21, A, -1.7e308), (22, A, -1.7e308)], len(EVERY))
    assert [one.values[1] for one in windows.advance(nobody, 30)] == [None]


@pytest.mark.parametrize("cut", [(25, 10, 0), (0, 10, 0), (10, 0, 0), (10, 10, -1), (14_410, 10, 0)])
def test_windows_that_cannot_be_cut_are_refused(cut: tuple[int, int, int]) -> None:
    """A whole number of intervals, not too many, and no negative lateness."""
    with pytest.raises(FieldInvalid):
        WindowShape(*cut, (COUNT,))
    with pytest.raises(FieldInvalid):
        Aggregate("p", Function.PRC, "v", 0.0)
    with pytest.raises(FieldInvalid):
        Aggregate("s", Function.SUM)


def test_what_stands_is_over_at_its_time_though_a_newer_record_came_first() -> None:
    """The windows between the last record and the new one are judged in their turn."""
    windows = TenantWindows(shape(20, 10))
    feed(windows, [(5, A, 1.0)], unsettled=everybody)
    windows.add(95, A, (1.0,))
    found = [(judged.end_ms, judged.values[0]) for judged in windows.advance(everybody, 100)]
    assert found[:4] == [(10, 1.0), (20, 1.0), (30, 0.0), (40, 0.0)]
    assert found[-1] == (100, 1.0)
