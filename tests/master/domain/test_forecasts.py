"""How a stream's size will go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.forecasts import AHEAD_DAYS, DAY_MS, LEAST_MS, Forecast, forecast

NOW = 100 * DAY_MS
MB = 1_000_000


@pytest.mark.parametrize(
    ("sizes", "size", "oldest_ms", "retention_ms", "expected"),
    [
        # A tenth of a day ago nothing is known; ten days ago the first record came.
        ([], 10 * MB, NOW - 10 * DAY_MS, None, Forecast(MB, 40 * MB)),
        # It grew faster lately than in the mean.
        ([(NOW - 5 * DAY_MS, 0)], 10 * MB, NOW - 10 * DAY_MS, None, Forecast(2 * MB, 70 * MB)),
        # Retention begins to erase in ten days, and has begun.
        ([], 10 * MB, NOW - 10 * DAY_MS, 20 * DAY_MS, Forecast(MB, 20 * MB)),
        ([], 10 * MB, NOW - 21 * DAY_MS, 20 * DAY_MS, Forecast(round(10 * MB / 21), 10 * MB)),
        # It shrinks, but never below nothing.
        ([(NOW - DAY_MS, 12 * MB)], 10 * MB, NOW - 10 * DAY_MS, 20 * DAY_MS, Forecast(-2 * MB, 0)),
        # Too young, or empty.
        ([(NOW - LEAST_MS + 1, 0)], MB, NOW - LEAST_MS + 1, None, None),
        ([], 0, None, None, None),
    ],
)
def test_growth_goes_on_until_retention_erases_as_much_as_comes(
    sizes: list[tuple[int, int]], size: int, oldest_ms: int | None, retention_ms: int | None, expected: Forecast | None
) -> None:
    """The size in thirty days is today's and the growth of the days until then."""
    assert forecast(sizes, size, oldest_ms, retention_ms, NOW) == expected


@given(st.integers(0, 10**15), st.integers(0, NOW), st.none() | st.integers(1, 1_000 * DAY_MS))
def test_a_forecast_is_never_below_nothing_nor_beyond_a_month_of_growth(
    size: int, oldest_ms: int, retention_ms: int | None
) -> None:
    """Whatever the numbers."""
    found = forecast([], size, oldest_ms, retention_ms, NOW)
    if found is not None:
        assert 0 <= found.bytes_ahead <= size + max(0, found.bytes_per_day + 1) * AHEAD_DAYS
