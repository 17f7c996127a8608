"""Writing in threads: a write that has begun cannot be taken back, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


def in_thread(work: Callable[..., _T], *arguments: Any) -> asyncio.Future[_T]:
    """What comes of work that blocks, begun as soon as a thread is free."""
    return asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def outlast(work: asyncio.Future[Any]) -> bool:
    """Wait until it is done, whatever came of it. A cancellation does not reach it; whether there was one."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
