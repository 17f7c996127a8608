"""Progress of long work, on stderr, only where somebody watches and only after a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_S = 0.7


class Progression:
    """A context manager; `advance` after each step. Shows nothing when stderr is no terminal, or `quiet`."""

    def __init__(self, description: str, *, quiet: bool = False) -> None:
        self._description = description
        self._watched = sys.stderr.isatty() and not quiet
        self._begun = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def show(self, done: int, total: int) -> None:
        """Say how far it is."""
        if not self._watched or time.monotonic() - self._begun < PATIENCE_S:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            progress.start()
            self._bar = (progress, progress.add_task(self._description, total=total))
        progress, task = self._bar
        progress.update(task, completed=done, total=total)
