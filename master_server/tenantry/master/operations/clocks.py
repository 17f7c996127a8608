"""The clocks that operations read, so that tests can turn them."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def wall_ms() -> int:
    """Unix time in milliseconds; may jump."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Milliseconds that never jump, from an arbitrary start."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """The wall clock for what is written down, the steady one for what is measured."""

    wall_ms: Callable[[], int] = wall_ms
    steady_ms: Callable[[], int] = steady_ms
