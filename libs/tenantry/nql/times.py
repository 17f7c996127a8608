"""Times as queries write them, and the calendar of a time zone.

A wall clock is a ``datetime`` without a zone, or the milliseconds since a wall clock showed 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from tenantry.nql.tree import Interval, Unit
from tenantry.nql.zones import Zone

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

# Moments lie in the years 1 to 9999 of the proleptic Gregorian calendar, a day away from both ends: every wall clock can show
# them.
EARLIEST_MS = -62_135_510_400_000
LATEST_MS = 253_402_214_399_999

FIXED_MS = {Unit.MILLISECOND: 1, Unit.SECOND: SECOND_MS, Unit.MINUTE: MINUTE_MS, Unit.HOUR: HOUR_MS}

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_RELATIVE = re.compile(r"([+-]?)((?:\d+(?:ms|s|m|h|d|w|M|y))*)@(.+)", re.ASCII | re.DOTALL)
_PART = re.compile(r"(\d+)(ms|s|m|h|d|w|M|y)", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)


class TimeUnreadable(ValueError):
    """A text is no time, or no interval. Its message is for the user."""


def in_range(ms: int) -> bool:
    """Whether a moment is one that queries can hold."""
    return EARLIEST_MS <= ms <= LATEST_MS


def wall_clock(ms: int, zone: Zone) -> datetime:
    """What a clock on a wall in this zone shows."""
    return _EPOCH + timedelta(milliseconds=zone.wall_of(ms))


def moment_of(wall: datetime, zone: Zone) -> int:
    """The moment at which a wall clock in this zone shows ``wall`` (for the first time, or would have)."""
    return zone.moment_of((wall - _EPOCH) // timedelta(milliseconds=1))


def moved(ms: int, count: int, unit: Unit, zone: Zone) -> int | None:
    """A moment moved by a span; days and longer keep the wall clock, months and years the day as far as there is one.

    None when that is outside of what queries can hold.
    """
    fixed = FIXED_MS.get(unit)
    if fixed is not None:
        result = ms + count * fixed
        return result if in_range(result) else None
    if abs(count) > 4_000_000:  # more days than there are
        return None
    wall = wall_clock(ms, zone)
    try:
        if unit in {Unit.DAY, Unit.WEEK}:
            there = wall + timedelta(days=count * (7 if unit is Unit.WEEK else 1))
        else:
            months = wall.year * 12 + wall.month - 1 + count * (12 if unit is Unit.YEAR else 1)
            year, month = divmod(months, 12)
            there = wall.replace(year=year, month=month + 1, day=min(wall.day, days_in(year, month + 1)))
        result = moment_of(there, zone)
    except (ValueError, OverflowError):
        return None
    return result if in_range(result) else None


def days_in(year: int, month: int) -> int:
    """The number of days of a month."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in {4, 6, 9, 11} else 31


def bucket_start(ms: int, interval: Interval, zone: Zone) -> int | None:
    """The beginning of the bucket that a moment lies in; None when that is outside of what queries can hold.

    Units below a day: fixed spans of the wall clock, counted from midnight of 1 January 1970, with the offset in force at the
    moment. Days, weeks (from Monday), months and years: of the zone's calendar, counted from 1970 (weeks from 5 January 1970).
    """
    fixed = FIXED_MS.get(interval.unit)
    if fixed is not None:
        span = fixed * interval.count
        offset = zone.offset_at(ms)
        start = (ms + offset) // span * span - offset
        return start if in_range(start) else None
    wall = wall_clock(ms, zone)
    day = (wall - _EPOCH) // timedelta(days=1)
    try:
        if interval.unit is Unit.DAY:
            first = _EPOCH + timedelta(days=day // interval.count * interval.count)
        elif interval.unit is Unit.WEEK:
            days = 7 * interval.count
            first = _EPOCH + timedelta(days=(day - 4) // days * days + 4)
        else:
            months = interval.count * (12 if interval.unit is Unit.YEAR else 1)
            number = ((wall.year - 1970) * 12 + wall.month - 1) // months * months
            first = datetime(1970 + number // 12, number % 12 + 1, 1)  # noqa: DTZ001 - a wall clock
        start = moment_of(first, zone)
    except (ValueError, OverflowError):
        return None
    return start if in_range(start) else None


def read_iso(text: str, zone: Zone) -> int | None:
    """ISO 8601 (``2026-11-22``, ``2026-11-22T10:00``, with seconds, up to nine decimals, an offset or Z); None when it is not.

    Without an offset it is local time of ``zone``. What is finer than a millisecond is cut off.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        wall = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))  # noqa: DTZ001
        extra = int((fraction or "").ljust(3, "0")[:3])
        if offset is None:
            result = moment_of(wall, zone) + extra
        else:
            ahead = offset_of(offset)
            if ahead is None:
                return None
            result = (wall - _EPOCH) // timedelta(milliseconds=1) + extra - ahead
    except (ValueError, OverflowError):
        return None
    return result if in_range(result) else None


def offset_of(text: str) -> int | None:
    """``Z``, ``+01:00`` or ``-0330`` in milliseconds; None when it is no offset that exists."""
    if text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 15 or minutes > 59:
        return None
    return (hours * HOUR_MS + minutes * MINUTE_MS) * (-1 if text[0] == "-" else 1)


def read_time(text: str, now_ms: int, zone: Zone) -> int:
    """Any time that a query may write: ``@now``, ``-15m@now``, ``-1h@<time>``, ISO 8601, epoch milliseconds.

    Raises TimeUnreadable.
    """
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return _anchor(text, now_ms, zone)
    sign, spans, anchor = match.groups()
    if sign and not spans:
        raise TimeUnreadable(f"a sign without a span in {text[:60]}")
    if anchor[0] in "\"'" and anchor[-1] == anchor[0] and len(anchor) > 1:
        anchor = anchor[1:-1]
    result = _anchor(anchor, now_ms, zone)
    direction = -1 if sign == "-" else 1
    for count, unit in _spans(spans):
        there = moved(result, direction * count, unit, zone)
        if there is None:
            raise TimeUnreadable("the time lies outside of the years 1 to 9999")
        result = there
    return result


def _anchor(text: str, now_ms: int, zone: Zone) -> int:
    if text == "now":
        return now_ms
    if _WHOLE.fullmatch(text):
        result: int | None = int(text)
    else:
        result = read_iso(text, zone)
        if result is None:
            raise TimeUnreadable(f"{text[:60]!r} is no time")
    if result is None or not in_range(result):
        raise TimeUnreadable("the time lies outside of the years 1 to 9999")
    return result


def _spans(text: str) -> Iterator[tuple[int, Unit]]:
    for count, unit in _PART.findall(text):
        if len(count) > 12:
            raise TimeUnreadable("the time lies outside of the years 1 to 9999")
        yield int(count), Unit(unit)


def read_interval(text: str) -> Interval:
    """A single span such as ``5m``. Raises TimeUnreadable."""
    match = _PART.fullmatch(text)
    if match is None:
        raise TimeUnreadable(f"{text[:60]!r} is no interval")
    if len(match[1]) > 9 or not int(match[1]):
        raise TimeUnreadable("an interval is a whole number of units, at least 1")
    interval = Interval(int(match[1]), Unit(match[2]))
    longest = {Unit.DAY: 36_500, Unit.WEEK: 5_200, Unit.MONTH: 1_200, Unit.YEAR: 100}
    if interval.count * FIXED_MS.get(interval.unit, 1) > longest.get(interval.unit, 36_500 * DAY_MS):
        raise TimeUnreadable("an interval is at most a hundred years long")
    return interval
