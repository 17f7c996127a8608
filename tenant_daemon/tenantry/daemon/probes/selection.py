"""Which devices, interfaces, file systems and services are measured when there may be any number of them."""

from __future__ import annotations

from collections.abc import Iterable


class Selection:
    """At most ``limit`` names, and the same ones from read to read.

    A name that has a place keeps it as long as it exists; places that become free go to the first others in the order of
    names. A new device can thus never push out one that is measured already, and the number of series is bounded.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chosen: set[str] = set()
        self._left_out = 0

    def choose(self, names: Iterable[str]) -> list[str]:
        """The chosen ones among the names that exist now, in order."""
        present = set(names)
        self._chosen &= present
        waiting = sorted(present - self._chosen)
        free = self._limit - len(self._chosen)
        self._chosen.update(waiting[:free])
        self._left_out = max(0, len(waiting) - free)
        return sorted(self._chosen)

    def note(self, what: str) -> tuple[str, ...]:
        """A note about those that the last choice left out, if any; ``what`` is their plural."""
        return (f"{self._left_out} {what} more than the limit of {self._limit} are left out",) if self._left_out else ()
