"""Times as texts by a format of ``tsToStr`` and ``tsParse``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from tenantry.nql.settings import split_format
from tenantry.nql.times import MINUTE_MS, in_range, offset_of, wall_clock
from tenantry.nql.zones import Zone

_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "L": 3}
_OFFSET = r"(?P<z>Z|[+-][0-9]{2}:?[0-9]{2})"
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock


def write_time(ms: int, form: str, zone: Zone) -> str:
    """A time in a zone, by a format."""
    wall = wall_clock(ms, zone)
    offset = zone.offset_at(ms)
    minutes = abs(offset) // MINUTE_MS
    parts = {
        "%Y": f"{wall.year:04d}",
        "%m": f"{wall.month:02d}",
        "%d": f"{wall.day:02d}",
        "%H": f"{wall.hour:02d}",
        "%M": f"{wall.minute:02d}",
        "%S": f"{wall.second:02d}",
        "%L": f"{wall.microsecond // 1000:03d}",
        "%j": f"{wall.timetuple().tm_yday:03d}",
        "%z": f"{'-' if offset < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}",
        "%%": "%",
    }
    return "".join(parts.get(piece, piece) for piece in split_format(form))


def read_time_as(text: str, form: str, zone: Zone) -> int | None:
    """The time that a text says by a format; None where it does not. Every part has all its digits."""
    pattern = ""
    for piece in split_format(form):
        letter = piece[1:] if piece.startswith("%") else ""
        if letter == "z":
            pattern += _OFFSET
        elif letter in _DIGITS:
            pattern += f"(?P<{letter}>[0-9]{{{_DIGITS[letter]}}})"
        else:
            pattern += re.escape("%" if letter == "%" else piece)
    match = re.fullmatch(pattern, text)
    if match is None:
        return None
    found = {name: value for name, value in match.groupdict().items() if name != "z"}
    try:
        year, month, day, hour, minute, second = (int(found.get(name, "0")) for name in "YmdHMS")
        wall = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - a wall clock
    except ValueError:
        return None
    clock = (wall - _EPOCH) // timedelta(milliseconds=1) + int(found.get("L", "0"))
    if "z" in match.groupdict():
        ahead = offset_of(match["z"])
        result = clock - ahead if ahead is not None else None
    else:
        result = zone.moment_of(clock)
    return result if result is not None and in_range(result) else None
