"""When maintenance windows are, over changes of clocks too, and what they mute."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.windows import (
    MINUTE_MS,
    Once,
    Recurring,
    Scope,
    Window,
    WindowDraft,
    check_draft,
    span_after,
    span_at,
    spans,
)
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Severity

HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def at(text: str) -> int:
    """A moment in UTC, Unix ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def begins(recurring: Recurring, start: str, days: int) -> list[str]:
    """When it begins, in UTC."""
    return [
        datetime.fromtimestamp(span.start_ms / 1000, UTC).strftime("%m-%d %H:%M")
        for span in spans(recurring, at(start), at(start) + days * DAY_MS)
    ]


def test_a_window_begins_by_the_clocks_of_its_zone() -> None:
    """In winter, in summer, at a time that the clocks skip (when they have) and at one that they show twice (once)."""
    nightly = Recurring("30 2 * * *", HOUR_MS, "Europe/Berlin")
    assert begins(nightly, "2026-03-27 12:00", 4) == ["03-28 01:30", "03-29 01:00", "03-30 00:30", "03-31 00:30"]
    assert begins(nightly, "2026-10-23 12:00", 4) == ["10-24 00:30", "10-25 00:30", "10-26 01:30", "10-27 01:30"]
    assert begins(Recurring("0 2 * * sun#2", HOUR_MS, "UTC"), "2026-01-01", 70) == [
        "01-11 02:00",
        "02-08 02:00",
        "03-08 02:00",
    ]


def test_a_window_lasts_its_time_whatever_the_clocks_do() -> None:
    """Four hours are four hours on the night that has 23 of them."""
    [span] = spans(
        Recurring("0 0 * * sun", 4 * HOUR_MS, "Europe/Berlin"), at("2026-03-28 20:00"), at("2026-03-29 12:00")
    )
    assert span == (at("2026-03-28 23:00"), at("2026-03-29 03:00"))


@given(
    cron=st.sampled_from(
        ["*/7 * * * *", "30 2 * * *", "0 1,13 * * *", "15 */5 * * mon-fri", "0 0 1 * *", "59 23 l * *"]
    ),
    minutes=st.integers(1, 600),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    start=st.integers(at("2026-03-01") // MINUTE_MS, at("2026-12-31") // MINUTE_MS),
    step=st.integers(1, 90),
)
def test_a_moment_is_in_a_window_exactly_when_a_span_contains_it(
    cron: str, minutes: int, zone: str, start: int, step: int
) -> None:
    """What is asked for one moment agrees with the calendar."""
    recurring = Recurring(cron, minutes * MINUTE_MS, zone)
    begin_ms = start * MINUTE_MS
    found = list(spans(recurring, begin_ms, begin_ms + DAY_MS))
    for moment in range(begin_ms, begin_ms + DAY_MS, step * MINUTE_MS + 1):
        inside = next((span for span in found if span.start_ms <= moment < span.end_ms), None)
        assert span_at(recurring, moment) == inside


def test_bounds_of_a_recurrence() -> None:
    """It neither begins before its first day nor at its last moment."""
    bounded = Recurring("0 * * * *", 10 * MINUTE_MS, "UTC", at("2026-01-01 02:00"), at("2026-01-01 04:00"))
    assert begins(bounded, "2026-01-01", 1) == ["01-01 02:00", "01-01 03:00"]
    assert span_at(bounded, at("2026-01-01 04:00")) is None


ALL = Scope()


def window(owner: int = 0, scope: Scope = ALL, *, active: bool = True) -> Window:
    """One that is all the time."""
    draft = WindowDraft("w", Once(0, DAY_MS), scope, active=active)
    return Window(1, "uid", owner, draft, 1, 0, "somebody", 0)


@pytest.mark.parametrize(
    ("own", "mutes"),
    [
        (window(), True),
        (window(active=False), False),
        (window(owner=7), True),
        (window(owner=8), False),
        (window(scope=Scope(frozenset({7}), frozenset({"rule"}), frozenset({Severity.LOW}))), True),
        (window(scope=Scope(tenant_ids=frozenset({8}))), False),
        (window(scope=Scope(rules=frozenset({"other"}))), False),
        (window(scope=Scope(severities=frozenset({Severity.HIGH}))), False),
    ],
)
def test_what_a_window_mutes(own: Window, mutes: bool) -> None:
    """The main tenant's window all Tenants, a Tenant's only its own; all that the scope names must hold."""
    assert (own.mutes(7, 7, "rule", Severity.LOW, 1) is not None) == mutes


@pytest.mark.parametrize(
    ("owner", "changes"),
    [
        (-1, {}),
        (7, {"scope": Scope(tenant_ids=frozenset({8}))}),
        (0, {"name": ""}),
        (0, {"schedule": Once(2, 1)}),
        (0, {"schedule": Once(0, 40 * DAY_MS)}),
        (0, {"schedule": Recurring("* * * *", HOUR_MS, "UTC")}),
        (0, {"schedule": Recurring("61 * * * *", HOUR_MS, "UTC")}),
        (0, {"schedule": Recurring("0 0 30 2 *", HOUR_MS, "UTC")}),
        (0, {"schedule": Recurring("0 0 * * *", HOUR_MS, "Middle/Earth")}),
        (0, {"schedule": Recurring("0 0 * * *", HOUR_MS, "../zone")}),
        (0, {"schedule": Recurring("0 0 * * *", 0, "UTC")}),
        (0, {"schedule": Recurring("0 0 * * *", 61_500, "UTC")}),
        (0, {"schedule": Recurring("0 0 * * *", HOUR_MS, "UTC", 10, 5)}),
        (0, {"schedule": Recurring("0 0 * * *", HOUR_MS, "UTC", 253_402_300_000_000)}),
        (0, {"scope": Scope(rules=frozenset({""}))}),
    ],
)
def test_a_wrong_window_is_refused(owner: int, changes: dict[str, Any]) -> None:
    """Each with the field that is wrong."""
    facts: dict[str, Any] = {"name": "w", "schedule": Once(0, DAY_MS)}
    with pytest.raises(FieldInvalid):
        check_draft(owner, WindowDraft(**{**facts, **changes}))


def test_the_next_window_is_found_without_those_that_began() -> None:
    """Also where tens of thousands overlap: what is asked for every window of a list holds up nobody."""
    every_minute = Recurring("* * * * *", 31 * DAY_MS, "UTC")
    now_ms = at("2026-03-01 12:00")
    assert span_after(every_minute, now_ms) == (now_ms + MINUTE_MS, now_ms + MINUTE_MS + 31 * DAY_MS)
    assert span_after(every_minute, now_ms - 1) == (now_ms, now_ms + 31 * DAY_MS)
    once = Once(now_ms, now_ms + HOUR_MS)
    assert (span_after(once, now_ms - 1), span_after(once, now_ms)) == ((now_ms, now_ms + HOUR_MS), None)
    assert span_after(Recurring("0 2 * * *", HOUR_MS, "UTC", until_ms=now_ms), now_ms) is None
