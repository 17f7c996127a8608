"""When something is tried again, what states there are, and how much is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.deliveries import (
    DELIVERIES,
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    LONGEST_WISH_MS,
    MAX_OUTCOME,
    DeliveryEvent,
    DeliveryState,
    bounded,
    clean_outcome,
    pause_ms,
)


def test_what_was_delivered_stays_so() -> None:
    """No event leads away from it, and only an operator from the dead."""
    assert [event for state, event in DELIVERIES if state is DeliveryState.DELIVERED] == []
    assert [event for state, event in DELIVERIES if state is DeliveryState.DEAD] == [DeliveryEvent.RETRIED]


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 10**9))
def test_a_pause_is_bounded(failures: int, chance: float, wish_ms: int) -> None:
    """It grows, differs by chance, and follows what the receiver asks for, up to an hour."""
    pause = pause_ms(failures, chance, wish_ms)
    assert FIRST_PAUSE_MS // 2 <= pause <= max(LONGEST_PAUSE_MS, LONGEST_WISH_MS)
    assert pause >= min(wish_ms, LONGEST_WISH_MS)
    assert pause_ms(failures + 1, chance) >= pause_ms(failures, chance)


@given(st.recursive(st.text() | st.integers() | st.none(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_what_is_told_is_bounded(value: object) -> None:
    """Whatever there is, it is JSON and not nested without end."""
    found = bounded(value)  # type: ignore[arg-type]  # as strange as it may be
    json.dumps(found)
    assert bounded(found) == found


@pytest.mark.parametrize("text", ["a\r\nb\x00\x1b[31m", "x" * 10_000, "", "\u202e"])
def test_what_a_server_said_is_one_short_line(text: str) -> None:
    """Printable, whatever it was."""
    found = clean_outcome(text)
    assert len(found) <= MAX_OUTCOME
    assert found.isprintable()
