"""Times, and other people's texts, as commands print them."""

from __future__ import annotations

import datetime as dt
import time

from tenantry.process.durations import format_milliseconds


def moment(milliseconds: int) -> str:
    """A time in Unix milliseconds."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(milliseconds: int) -> str:
    """How long a time in Unix milliseconds is past."""
    past_ms = max(0, time.time_ns() // 1_000_000 - milliseconds)
    return f"{format_milliseconds(past_ms // 1000 * 1000)} ago"


def shown(text: str) -> str:
    """A text that somebody else wrote, without what a terminal would obey, or what would turn the line around."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)
