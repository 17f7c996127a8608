"""How much memory the windows of all connections of a process may take together."""

from __future__ import annotations

from typing import Final

FIRST_WINDOW: Final = 256 * 1024
"""With so many bytes each connection begins, whatever the budget."""
LARGEST_WINDOW: Final = 8 << 20
"""To so many bytes a connection's window grows."""
DEFAULT_BUDGET: Final = 192 << 20


class Budget:
    """What windows may grow by, all of a process together, in bytes. What a connection took it gives back at its end."""

    __slots__ = ("_left", "total")

    def __init__(self, total: int = DEFAULT_BUDGET) -> None:
        self.total = total
        self._left = total

    @property
    def left(self) -> int:
        """What can still be taken."""
        return self._left

    def take(self, wanted: int) -> int:
        """Take ``wanted`` bytes or what is left of them; 0 when little is."""
        given = min(wanted, self._left)
        if given < min(wanted, FIRST_WINDOW):
            return 0
        self._left -= given
        return given

    def give(self, taken: int) -> None:
        """Give back what was taken."""
        self._left += taken
