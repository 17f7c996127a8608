"""Times and durations as operators type them and read them. Inside: Unix milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tenantry.cli.troubles import InputInvalid
from tenantry.process.durations import InvalidDuration, parse_milliseconds

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

_STEPS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def now_ms() -> int:
    """This machine's clock."""
    return int(datetime.now(UTC).timestamp() * 1000)


def parse_moment(text: str, now: int) -> int:
    """A point in time: `now`, `-1h` (before `now`), Unix milliseconds, or ISO 8601 (local time without an offset).

    Raises InputInvalid.
    """
    if text == "now":
        return now
    try:
        if text.startswith("-"):
            return now - parse_milliseconds(text[1:])
        if re.fullmatch(r"\d{12,14}", text):
            return int(text)
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (InvalidDuration, ValueError, OverflowError, OSError):
        raise InputInvalid(
            f"{text!r} is not a time", "Write it like -1h, -15m, 2026-01-31, 2026-01-31T14:30:00Z or now."
        ) from None


def parse_length(text: str) -> int:
    """A duration in milliseconds, written like `30s` or `1h30m`. Raises InputInvalid."""
    try:
        return parse_milliseconds(text)
    except InvalidDuration as error:
        raise InputInvalid(str(error), "Write it like 10s, 30m or 1h30m.") from None


def timestamp_ms(timestamp: Timestamp) -> int:
    """A Timestamp in Unix milliseconds."""
    return timestamp.seconds * 1000 + timestamp.nanos // 1_000_000


def to_timestamp(milliseconds: int) -> Timestamp:
    """Unix milliseconds as a Timestamp."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def to_duration(milliseconds: int) -> Duration:
    """Milliseconds as a Duration."""
    from google.protobuf.duration_pb2 import Duration

    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def duration_ms(duration: Duration) -> int:
    """A Duration in milliseconds."""
    return duration.seconds * 1000 + int(duration.nanos / 1_000_000)


def rfc3339(timestamp: Timestamp) -> str:
    """A Timestamp in UTC with milliseconds, for machines; beyond year 9999 the number of milliseconds."""
    milliseconds = timestamp_ms(timestamp)
    try:
        moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def local_time(milliseconds: int) -> str:
    """A moment in this machine's time zone, to the second, for people."""
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def length(milliseconds: int) -> str:
    """A duration for people, in its largest unit, rounded down: `4 s`, `3 min`, `2 d`."""
    for unit, name in _STEPS:
        if milliseconds >= unit:
            return f"{milliseconds // unit} {name}"
    return "0 s"


def ago(milliseconds: int, now: int) -> str:
    """How long ago a moment was, for people; a moment in the future counts as now."""
    return f"{length(max(0, now - milliseconds))} ago"
