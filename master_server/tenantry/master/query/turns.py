"""Whose query runs next: so many at once, so many of one caller, and the others wait in the order in which they came."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from tenantry.protocol.failures import QueriesTooMany

WAITING_EACH: Final = 16
"""So many queries of one caller may wait beside those that run."""


class QueryTurns:
    """Lives on the event loop."""

    def __init__(self, running: int, each: int) -> None:
        """``running``: at once; ``each``: of one caller."""
        self._free = asyncio.Semaphore(running)
        self._each = each
        self._callers: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def turn(self, caller: Hashable) -> AsyncIterator[None]:
        """Wait for one's turn, and have it while the block runs. Raises QueriesTooMany."""
        own, there = self._callers.get(caller, (asyncio.Semaphore(self._each), 0))
        if there >= self._each + WAITING_EACH:
            raise QueriesTooMany(limit=there, whose="one user")
        self._callers[caller] = own, there + 1
        try:
            async with own, self._free:
                yield
        finally:
            there = self._callers[caller][1] - 1
            if there:
                self._callers[caller] = own, there
            else:
                del self._callers[caller]
