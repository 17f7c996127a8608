"""The offsets of a time zone as a table, so that every part that reads times reads them alike.

The table holds the years 1970 to 2069 of the IANA data that Python finds; before and behind it the first and the last offset
go on. A local time that a change of clocks skips, or that happens twice, is read with the offset in force before the change.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from tenantry.protocol.failures import FieldInvalid

_STEP_MS = 5 * 86_400_000  # no zone changed its clocks twice within five days since 1970
_LAST_MS = 3_155_760_000_000  # 1 January 2070
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone: ``offsets[i]`` (milliseconds ahead of UTC) holds from ``changes[i - 1]`` on and until ``changes[i]``.

    ``walls`` are the same limits as a wall clock shows them: from ``walls[i - 1]`` on a wall clock means ``offsets[i]``.
    """

    name: str
    offsets: tuple[int, ...]
    changes: tuple[int, ...]
    walls: tuple[int, ...]

    def offset_at(self, ms: int) -> int:
        """The offset at a moment."""
        return self.offsets[bisect_right(self.changes, ms)] if self.changes else self.offsets[0]

    def wall_of(self, ms: int) -> int:
        """A moment as the wall clock shows it, in milliseconds since it showed 1970."""
        return ms + self.offset_at(ms)

    def moment_of(self, wall: int) -> int:
        """The moment at which the wall clock shows this, for the first time."""
        return wall - (self.offsets[bisect_right(self.walls, wall)] if self.walls else self.offsets[0])


UTC_ZONE = Zone("UTC", (0,), (), ())


def zone_named(name: str) -> Zone:
    """The zone of an IANA name such as ``Europe/Vienna``. Raises FieldInvalid."""
    return UTC_ZONE if name == "UTC" else _zone(name)


@lru_cache(maxsize=64)
def _zone(name: str) -> Zone:
    try:
        rules = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        expected = "an IANA name such as Europe/Vienna or UTC"
        raise FieldInvalid(field="time_zone", problem="is no known time zone", expected=expected) from None

    def offset(ms: int) -> int:
        ahead = (_EPOCH + timedelta(milliseconds=ms)).astimezone(rules).utcoffset()
        return ahead // timedelta(milliseconds=1) if ahead is not None else 0

    offsets, changes = [offset(0)], []
    for start in range(0, _LAST_MS, _STEP_MS):
        after = offset(start + _STEP_MS)
        if after != offsets[-1]:
            low, high = start, start + _STEP_MS  # the change lies in (low, high]
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if offset(middle) != offsets[-1] else (middle, high)
            changes.append(high)
            offsets.append(after)
    walls = [
        change + max(before, after) for change, before, after in zip(changes, offsets[:-1], offsets[1:], strict=True)
    ]
    return Zone(name, tuple(offsets), tuple(changes), tuple(walls))
