"""Durations as people write them: `30m`, `1h30m`, `10s`, `250ms`, `7d`, `1.5h`.

A duration is a sequence of number and unit, largest unit first, each unit at most once. Units are `w`, `d` (24 h), `h`,
`m`, `s` and `ms`. A fraction is allowed as long as the whole is a whole number of milliseconds. A bare `0` is allowed,
any other number needs its unit.
"""

import re
from decimal import Decimal
from typing import Final

_UNITS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|[wdhms])")
_LIMIT_MS: Final = 1_000 * 366 * _UNITS["d"]
_EXAMPLES: Final = "write it like 30m, 1h30m, 10s, 250ms or 7d"


class InvalidDuration(ValueError):
    """A text is not a duration; the message says why and shows how to write one."""

    def __init__(self, text: str, problem: str) -> None:
        shown = text if len(text) <= 40 else text[:40] + "…"
        super().__init__(f"{shown!r} is not a duration: {problem} ({_EXAMPLES})")
        self.text = text
        self.problem = problem


def parse_milliseconds(text: str) -> int:
    """Return the duration `text` in milliseconds, 0 or more. Raises InvalidDuration."""
    if text == "0":
        return 0
    if not text:
        raise InvalidDuration(text, "it is empty")
    total = Decimal(0)
    position = 0
    smallest = _LIMIT_MS
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise InvalidDuration(text, _problem(text[position:]))
        unit = _UNITS[part[2]]
        if unit >= smallest:
            raise InvalidDuration(text, "larger units come first, and each at most once")
        smallest = unit
        total += Decimal(part[1]) * unit
        position = part.end()
    if total != total.to_integral_value():
        raise InvalidDuration(text, "it is finer than a millisecond")
    if total > _LIMIT_MS:
        raise InvalidDuration(text, "it is longer than 1000 years")
    return int(total)


def parse_duration(text: str) -> float:
    """Return the duration `text` in seconds, 0 or more. Raises InvalidDuration."""
    return parse_milliseconds(text) / 1000


def format_milliseconds(milliseconds: int) -> str:
    """Write a duration in milliseconds so that parse_milliseconds gives the same number back; 5400000 is `1h30m`.

    Weeks are written as days. Raises ValueError for a negative number.
    """
    if milliseconds < 0:
        raise ValueError(f"a duration is not negative: {milliseconds} ms")
    parts = []
    rest = milliseconds
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_duration(seconds: float) -> str:
    """Write a duration in seconds, rounded to milliseconds; 5400 is `1h30m`. Raises ValueError for a negative one."""
    return format_milliseconds(round(seconds * 1000))


def _problem(rest: str) -> str:
    if rest.startswith("-"):
        return "it is negative"
    if re.fullmatch(r"[0-9.]+", rest):
        return f"the number {rest[:20]!r} has no unit"
    return f"{rest[:20]!r} is not a number with a unit (w, d, h, m, s, ms)"
