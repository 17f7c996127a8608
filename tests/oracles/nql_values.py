"""Values and functions of NQL as docs/reference/nql.md describes them; nothing here looks at how the Master does it."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

TIME, TEXT, NUMBER, BOOLEAN, TEXTS, JSON = "time", "text", "number", "boolean", "texts", "json"

_FIRST = datetime(1, 1, 2, tzinfo=UTC)
_LAST = datetime(9999, 12, 30, 23, 59, 59, 999000, tzinfo=UTC)
_START = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Place:
    """The zone that a query is read in."""

    zone: ZoneInfo

    def wall(self, ms: int) -> datetime:
        """What the wall clock shows, as a datetime that knows its zone."""
        return (_START + ms * _MS).astimezone(self.zone)

    def moment(self, wall: datetime) -> int | None:
        """The moment of a wall clock's time."""
        try:
            return allowed((wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC) - _START) // _MS)
        except OverflowError:
            return None


def allowed(ms: int | None) -> int | None:
    """A moment of the years that there are."""
    if ms is None or not (_FIRST - _START) // _MS - 86_400_000 < ms < (_LAST - _START) // _MS + 86_400_000:
        return None
    return ms


def finite(number: float) -> float | None:
    """A number that has a finite value."""
    return number if math.isfinite(number) else None


def number_in(text: str) -> float | None:
    """What a text reads as."""
    return finite(float(text)) if _NUMBER.fullmatch(text) else None


def number_text(number: float) -> str:
    """The shortest text of a number."""
    text = repr(number)
    return text.removesuffix(".0")


def iso_time(text: str, place: Place) -> int | None:
    """ISO 8601."""
    if not _ISO.fullmatch(text):
        return None
    text = re.sub(r"(\.\d{1,3})\d*", r"\1", text)
    text = re.sub(r"\.(\d{1,3})", lambda found: "." + found[1].ljust(3, "0"), text)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    if read.tzinfo is None:
        return place.moment(read)
    if abs(read.utcoffset() or timedelta()) >= timedelta(hours=16):
        return None
    try:
        return allowed((read - _START) // _MS)
    except OverflowError:
        return None


def json_text(value: object) -> str:
    """JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_as(value: Any, given: str, wanted: str, place: Place) -> Any:
    """A value of one type read as another."""
    if value is None or given == wanted:
        return value
    if given == JSON:
        text = value if isinstance(value, str) else json_text(value)
        match wanted:
            case "text":
                return text
            case "number":
                return number_in(text)
            case "boolean":
                return {"true": True, "false": False}.get(text)
            case _:
                number = number_in(text)
                return iso_time(text, place) if number is None else allowed(math.floor(number))
    if wanted == JSON:
        return dict(value)
    if wanted == NUMBER:
        return number_in(value) if given == TEXT else float(value)
    if wanted == TEXT:
        match given:
            case "number":
                return number_text(value)
            case "boolean":
                return "true" if value else "false"
            case _:
                return write(value, "%Y-%m-%dT%H:%M:%S.%L%z", place)
    raise AssertionError(f"{given} is never read as {wanted}")


def write(ms: int, form: str, place: Place) -> str:
    """A time as text."""
    wall = place.wall(ms)
    offset = wall.strftime("%z")
    parts = {
        "Y": str(wall.year).rjust(4, "0"),
        "L": str(wall.microsecond // 1000).rjust(3, "0"),
        "z": f"{offset[:3]}:{offset[3:5]}",
        "%": "%",
    }
    return re.sub("%(.)", lambda found: parts.get(found[1]) or wall.strftime(found[0]), form)


def bucket(ms: int, count: int, unit: str, place: Place) -> int | None:
    """The beginning of a bucket."""
    wall = place.wall(ms)
    naive = wall.replace(tzinfo=None)
    epoch = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
    if unit in {"ms", "s", "m", "h"}:
        span = count * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}[unit]
        into = ((naive - epoch) // _MS) % span
        return allowed(ms - into)
    match unit:
        case "d":
            begin = epoch + timedelta(days=(naive - epoch).days // count * count)
        case "w":
            monday = datetime(1970, 1, 5)  # noqa: DTZ001 - a wall clock
            begin = monday + timedelta(weeks=(naive - monday).days // 7 // count * count)
        case _:
            months = count * (12 if unit == "y" else 1)
            number = ((naive.year - 1970) * 12 + naive.month - 1) // months * months
            begin = datetime(1970 + number // 12, number % 12 + 1, 1)  # noqa: DTZ001 - a wall clock
    return place.moment(begin)


def add(ms: int, count: float, unit: str, place: Place) -> int | None:
    """A time moved."""
    spans = {"Milliseconds": 1, "Seconds": 1_000, "Minutes": 60_000, "Hours": 3_600_000}
    if unit in spans:
        there = ms + count * spans[unit]
        return allowed(math.floor(there)) if math.isfinite(there) else None
    wall = place.wall(ms).replace(tzinfo=None)
    whole = math.trunc(count)
    try:
        if unit in {"Days", "Weeks"}:
            return place.moment(wall + timedelta(days=whole * (7 if unit == "Weeks" else 1)))
        number = wall.year * 12 + wall.month - 1 + whole * (12 if unit == "Years" else 1)
        for day in range(wall.day, 27, -1):
            try:
                return place.moment(wall.replace(year=number // 12, month=number % 12 + 1, day=day))
            except ValueError:
                continue
        return place.moment(wall.replace(year=number // 12, month=number % 12 + 1))
    except (ValueError, OverflowError):
        return None


def part(ms: int, name: str, place: Place) -> float:
    """A part of a time."""
    wall = place.wall(ms)
    letter = {"Year": "%Y", "Month": "%m", "Day": "%d", "Hour": "%H", "Minute": "%M", "Second": "%S", "DayOfYear": "%j"}
    if name == "Millisecond":
        return float(wall.microsecond // 1000)
    return float(wall.isoweekday() if name == "DayOfWeek" else int(wall.strftime(letter[name])))


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address."""
    if re.fullmatch(r"::[fF]{4}:[0-9.]+", text):
        text = text.rpartition(":")[2]
    elif ":" in text and ("." in text or "%" in text):
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def rounded(number: float, digits: int) -> float | None:
    """Halves away from 0."""
    scaled = abs(number) * 10**digits
    if not math.isfinite(scaled):
        return number
    whole = math.floor(scaled)
    return math.copysign((whole + (scaled - whole >= 0.5)) / 10**digits, number)
