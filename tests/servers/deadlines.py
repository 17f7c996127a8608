"""Waiting for what another process does: there is no event to await, so it is looked for until a deadline.

Deadlines count the time in which the machine could have worked for a test. On one that is busy with others a sleep comes back late;
what it is late does not count, and promises that name seconds can be checked there too.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
PATIENCE_S = 60.0
"""For what names no time: far more than it takes, and less than a test may take."""
_LOOK_S = 0.02
_SELDOM_S = 0.2
_PATIENT = 20
"""Who has waited long looks less often: a twentieth of the wait so far lies between two looks, which may cost both ends a lot."""


class TooLate(AssertionError):
    """What was waited for did not come."""


@overload
async def eventually(look: Callable[[], Awaitable[T | None]], what: str, seconds: float = PATIENCE_S) -> T: ...
@overload
async def eventually(look: Callable[[], T | None], what: str, seconds: float = PATIENCE_S) -> T: ...
async def eventually(look: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """The first answer of ``look``, a function or a coroutine function, that is true. Raises TooLate."""
    began = time.monotonic()
    deadline = began + seconds
    while True:
        answer = look()
        found = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        now = time.monotonic()
        if now > deadline:
            raise TooLate(f"waited {seconds:g} s in vain for {what}")
        deadline += await _rest(min(max(_LOOK_S, (now - began) / _PATIENT), _SELDOM_S))


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """The block must be done within these seconds. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    timer: asyncio.Handle
    async with asyncio.timeout(seconds) as timeout:

        def allow_for_lateness(due: float) -> None:
            nonlocal timer
            now, when = loop.time(), timeout.when()
            if when is None or now >= when:
                return
            timeout.reschedule(when + now - due)
            timer = loop.call_at(now + _LOOK_S, allow_for_lateness, now + _LOOK_S)

        timer = loop.call_soon(allow_for_lateness, loop.time())
        try:
            yield
        finally:
            timer.cancel()


async def _rest(seconds: float) -> float:
    """Sleep a little; how many seconds later than asked this task went on."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return max(0.0, time.monotonic() - began - seconds)
