"""Waiting for what another process does: there is no event to await, so it is looked for until a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
_LOOK_S = 0.02


class TooLate(AssertionError):
    """What was waited for did not come."""


@overload
async def eventually(look: Callable[[], Awaitable[T | None]], what: str, seconds: float = 30.0) -> T: ...
@overload
async def eventually(look: Callable[[], T | None], what: str, seconds: float = 30.0) -> T: ...
async def eventually(look: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first answer of ``look``, a function or a coroutine function, that is true. Raises TooLate."""
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        found = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        if time.monotonic() > deadline:
            raise TooLate(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(_LOOK_S)
