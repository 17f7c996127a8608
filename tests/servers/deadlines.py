"""Waiting for what another process does: there is no event to await, so it is looked for until a deadline."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LOOK_S = 0.02


class TooLate(AssertionError):
    """What was waited for did not come."""


async def eventually(look: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
    """The first answer of ``look`` that is true. Raises TooLate."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TooLate(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(_LOOK_S)
    return found
