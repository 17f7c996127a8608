import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.process.durations import (
    InvalidDuration,
    format_duration,
    format_milliseconds,
    parse_duration,
    parse_milliseconds,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("30m", 1_800_000),
        ("1h30m", 5_400_000),
        ("10s", 10_000),
        ("250ms", 250),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("1.5h", 5_400_000),
        ("0.5s", 500),
        ("2m500ms", 120_500),
        ("0", 0),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    """Each way to write a duration gives its milliseconds and seconds."""
    assert parse_milliseconds(text) == milliseconds
    assert parse_duration(text) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("10", "no unit"),
        ("1.5", "no unit"),
        ("-5m", "negative"),
        ("5x", "not a number with a unit"),
        ("m", "not a number with a unit"),
        ("30m1h", "larger units come first"),
        ("1h1h", "at most once"),
        ("0.5ms", "finer than a millisecond"),
        ("999999999d", "1000 years"),
        (" 5m", "not a number with a unit"),
        ("5m\n", "not a number with a unit"),
        ("٥m", "not a number with a unit"),
        ("1e3s", "not a number with a unit"),
        ("9" * 10_000, "no unit"),
    ],
)
def test_what_is_no_duration_is_explained(text: str, problem: str) -> None:
    """The message tells what is wrong, shows how to write it, and stays short."""
    with pytest.raises(InvalidDuration, match=problem) as refusal:
        parse_milliseconds(text)
    assert "1h30m" in str(refusal.value)
    assert len(str(refusal.value)) < 200


@given(st.integers(0, 10**13))
def test_what_is_written_reads_the_same(milliseconds: int) -> None:
    """Formatting and parsing are inverse."""
    assert parse_milliseconds(format_milliseconds(milliseconds)) == milliseconds


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the parser fail in another way, and none is negative."""
    with contextlib.suppress(InvalidDuration):
        assert parse_milliseconds(text) >= 0


def test_durations_are_written() -> None:
    """Largest unit first, nothing that is zero, and negative ones are refused."""
    assert format_duration(5400) == "1h30m"
    assert format_duration(0) == "0s"
    assert format_duration(0.25) == "250ms"
    assert format_duration(8 * 86_400) == "8d"
    with pytest.raises(ValueError, match="negative"):
        format_milliseconds(-1)
