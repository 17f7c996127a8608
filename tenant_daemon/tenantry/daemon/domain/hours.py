"""Hours of the week, as policies write them: ``Mon-Fri 08:00-18:00``, ``Sat``, ``22:00-06:00``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_DAY_MINUTES: Final = 24 * 60
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(
    r"(?:([a-z]{3})(?:\s*-\s*([a-z]{3}))?)?\s*(?:([0-9]{2}):([0-9]{2})\s*-\s*([0-9]{2}):([0-9]{2}))?"
)
_EXPECTED: Final = "such as Mon-Fri 08:00-18:00, Sat, or 22:00-06:00"


@dataclass(frozen=True, slots=True)
class LocalMinute:
    """A moment by a clock on the wall: the day of the week (0 is Monday), and the minute of the day."""

    weekday: int
    minute: int


@dataclass(frozen=True, slots=True)
class WeeklyHours:
    """Windows of a week: day, first minute, length in minutes. None of them: always."""

    windows: tuple[tuple[int, int, int], ...] = ()

    def include(self, now: LocalMinute) -> bool:
        """Whether ``now`` lies in a window; one that goes over midnight belongs to the day on which it begins."""
        week = 7 * _DAY_MINUTES
        moment = now.weekday * _DAY_MINUTES + now.minute
        return not self.windows or any(
            (moment - (day * _DAY_MINUTES + first)) % week < length for day, first, length in self.windows
        )


ALWAYS: Final = WeeklyHours()


def read_hours(texts: Sequence[str]) -> WeeklyHours:
    """Raises ValueError with what is wrong."""
    return WeeklyHours(tuple(window for text in texts for window in _read_window(text)))


def _read_window(text: str) -> list[tuple[int, int, int]]:
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None or not text.strip():
        raise ValueError(f"{text!r} is no window; {_EXPECTED}")
    first_day, last_day = match[1] or "mon", match[2] or match[1] or "sun"
    if first_day not in _DAYS or last_day not in _DAYS:
        raise ValueError(f"{text!r} names no day; days are {', '.join(one.title() for one in _DAYS)}")
    begin, length = 0, _DAY_MINUTES
    if match[3] is not None:
        begin, end = _minute(match[3], match[4], text), _minute(match[5], match[6], text)
        length = (end - begin) % _DAY_MINUTES or _DAY_MINUTES
        if begin == _DAY_MINUTES:
            raise ValueError(f"{text!r} begins at the end of a day; {_EXPECTED}")
    start = _DAYS.index(first_day)
    count = (_DAYS.index(last_day) - start) % 7 + 1
    return [((start + one) % 7, begin, length) for one in range(count)]


def _minute(hour: str, minute: str, text: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > _DAY_MINUTES:
        raise ValueError(f"{text!r} has no such time; {_EXPECTED}")
    return value
