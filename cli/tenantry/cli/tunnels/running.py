"""How the commands that hold a tunnel run: an event loop that Ctrl-C and the usual signals end in order, and lines of progress."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import click

from tenantry.process.memory import keep_large_blocks
from tenantry.process.open_files import allow_open_files

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. SIGTERM and SIGHUP cancel it as Ctrl-C does; the process then ends with 128 and the signal's number."""
    keep_large_blocks()
    allow_open_files()  # the usual 1,024 are fewer than the connections that a tunnel may have
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_ending_by_signals(work))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None for Python's own."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


@contextlib.asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks of which the first failure is what is raised, by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as several:
        error: BaseException = several
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def tell(line: str) -> None:
    """A line about the progress, on stderr. It is escaped already."""
    click.echo(line, err=True)


async def _ending_by_signals(work: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    received: list[int] = []

    async with together() as group:
        task = group.create_task(work)

        def end(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in _ENDING:
            # Who runs us with nohup wants SIGHUP to be ignored.
            if signal.getsignal(number) is signal.SIG_DFL:
                loop.add_signal_handler(number, end, number)
    if received:
        sys.exit(128 + received[0])
