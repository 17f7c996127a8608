"""How a stream's size will go on. Sizes are bytes, times Unix milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000
AHEAD_DAYS: Final = 30
LEAST_MS: Final = 3_600_000
"""What lies closer together says nothing about days."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Growth as it was lately (negative where more was erased than came), and the size in `AHEAD_DAYS` if it stays so."""

    bytes_per_day: int
    bytes_ahead: int


def forecast(
    sizes: Sequence[tuple[int, int]], size: int, oldest_ms: int | None, retention_ms: int | None, now_ms: int
) -> Forecast | None:
    """What may be expected of a stream; None while it is too young to say.

    ``sizes`` are (time, size) of earlier, the oldest first; without any that is old enough the mean since the oldest record counts.
    A stream grows until its oldest record reaches the retention, and then stays as it is.
    """
    earlier = next(((at, was) for at, was in sizes if now_ms - at >= LEAST_MS), None)
    if earlier is None and oldest_ms is not None and now_ms - oldest_ms >= LEAST_MS:
        earlier = oldest_ms, 0
    if earlier is None:
        return None
    at_ms, was = earlier
    per_day = (size - was) * DAY_MS / (now_ms - at_ms)
    days = float(AHEAD_DAYS)
    if retention_ms is not None and per_day > 0:
        age_ms = 0 if oldest_ms is None else now_ms - oldest_ms
        days = min(days, max(0.0, (retention_ms - age_ms) / DAY_MS))
    return Forecast(round(per_day), max(0, round(size + per_day * days)))
