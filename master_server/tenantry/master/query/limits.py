"""How much one query may have."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

DEFAULT_ROWS: Final = 4_000
"""Few enough for the engine to keep the best of all rows at hand; more than 5,000 make it sort everything."""
MAX_ROWS: Final = 1_000_000
"""Of a result; more is cut, and the answer says so."""
ROOM: Final = 2 << 30
"""Bytes that a process may allocate beside twice the engine's memory; Arrow reserves a half of it at once, and uses little."""
MAX_FOLLOWED_ROWS: Final = 100_000
"""Of what a query makes of one step that is followed: `unwind` makes many out of one."""
MAX_TEXT: Final = 16_384
"""Characters of a query."""
ROWS_A_STEP: Final = 1_000
STEP_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What bounds the engine in one process. Bytes and milliseconds."""

    memory: int = 512 << 20
    """Of the engine; what is read and handed over comes on top, within as much again."""
    temporary: int = 1 << 30
    """On disk, for what does not fit into the memory."""
    threads: int = 2
    timeout_ms: int = 60_000

    def as_plain(self) -> dict[str, Any]:
        """For the other process."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """The inverse of `as_plain`."""
        return cls(**plain)
