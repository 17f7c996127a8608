"""This machine's own log of tunnels: who, why, where to, when, how much, how it ended; under the ids that the Master's audit has too.

JSON lines in the folder ``tunnels`` below the daemon's data: ``tunnels.jsonl``, older ones in ``tunnels.1.jsonl`` and so on. A tunnel
that was allowed is in the log before it is open. Connections have files of their own, so that many of them do not push out who asked
for what.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from tenantry.daemon.tunnels.disk_work import in_thread, outlast
from tenantry.process.files import FileExposed, private_directory, sync_directory

_log = structlog.get_logger(__name__)

TUNNELS: Final = "tunnels"
CONNECTIONS: Final = "connections"
FILE_BYTES: Final = 4 << 20
FILES: Final = 5
MOST_WAITING: Final = 10_000
SOON_S: Final = 0.1
"""So long lines that nobody waits for are gathered: one thread and one fsync for those of many connections."""
_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a log are."""

    folder: Path
    name: str

    def file(self, number: int) -> Path:
        """The newest has the number 0."""
        return self.folder / (f"{self.name}.jsonl" if number == 0 else f"{self.name}.{number}.jsonl")


class TunnelLog:
    """One of the logs. It has one writer: `run` puts down what `note` was given, many lines with one fsync."""

    def __init__(self, data: Path, name: str, *, file_bytes: int = FILE_BYTES) -> None:
        """``data``: the daemon's data folder. ``name``: `TUNNELS` or `CONNECTIONS`."""
        self._place = Place(data / "tunnels", name)
        self._file_bytes = file_bytes
        self._waiting: deque[tuple[bytes, asyncio.Future[None] | None]] = deque()
        self._came = asyncio.Event()
        self._awaited = asyncio.Event()
        self.missed = 0
        self.trouble = ""

    def note(self, event: str, now_ms: int, **facts: Any) -> None:
        """Have a line written soon. Lines beyond `MOST_WAITING` are counted in ``missed`` and left out."""
        if len(self._waiting) >= MOST_WAITING:
            self.missed += 1
            return
        self._put(event, now_ms, facts, None)

    async def write(self, event: str, now_ms: int, **facts: Any) -> None:
        """Write a line; it is on the disk on return. Raises OSError."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(event, now_ms, facts, written)
        self._awaited.set()
        await written

    async def run(self) -> None:
        """Write, for as long as the daemon runs; when it is cancelled what waits is written first."""
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SOON_S):
                        await self._awaited.wait()
                self._awaited.clear()
                await self._flush()
        finally:
            with contextlib.suppress(OSError, FileExposed):
                _append(self._place, b"".join(line for line, _ in self._waiting), self._file_bytes)

    def _put(self, event: str, now_ms: int, facts: Mapping[str, Any], written: asyncio.Future[None] | None) -> None:
        line = json.dumps({"time_ms": now_ms, "event": event, **facts}).encode() + b"\n"
        self._waiting.append((line, written))
        self._came.set()

    async def _flush(self) -> None:
        while self._waiting:
            batch = list(self._waiting)
            lines = b"".join(line for line, _ in batch)
            writing = in_thread(_append, self._place, lines, self._file_bytes)
            cancelled = await outlast(writing)  # what is being written now is not to be written again
            try:
                writing.result()
            except (OSError, FileExposed) as error:
                if not cancelled:
                    await self._fail(batch, str(getattr(error, "strerror", None) or error))
            else:
                self.trouble = ""
                self._settle(batch, None)
            if cancelled:
                raise asyncio.CancelledError

    async def _fail(self, batch: list[tuple[bytes, asyncio.Future[None] | None]], cause: str) -> None:
        """Who waits is told; what nobody waits for is tried again."""
        if not self.trouble:
            _log.error("log of tunnels cannot be written", cause=cause)
        self.trouble = cause
        self._settle(batch, cause)
        self._waiting.extendleft(reversed([entry for entry in batch if entry[1] is None]))
        if self._waiting and all(written is None for _, written in self._waiting):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S):
                    await self._came.wait()

    def _settle(self, batch: list[tuple[bytes, asyncio.Future[None] | None]], cause: str | None) -> None:
        for _ in batch:
            self._waiting.popleft()
        for _, written in batch:
            if written is None or written.done():
                continue
            if cause is None:
                written.set_result(None)
            else:
                written.set_exception(OSError(cause))


def read_log(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """All lines of a log that are kept, the oldest first; torn ones are left out. Raises OSError but for what is not there."""
    place = Place(data / "tunnels", name)
    for number in reversed(range(FILES)):
        try:
            with place.file(number).open("rb") as lines:
                for line in lines:
                    with contextlib.suppress(ValueError):
                        fact = json.loads(line)
                        if isinstance(fact, dict):
                            yield fact
        except FileNotFoundError:
            continue


def _append(place: Place, lines: bytes, file_bytes: int) -> None:
    if not lines:
        return
    private_directory(place.folder)
    newest = place.file(0)
    with contextlib.suppress(FileNotFoundError):
        if newest.stat().st_size + len(lines) > file_bytes:
            for number in reversed(range(FILES - 1)):
                with contextlib.suppress(FileNotFoundError):
                    place.file(number).replace(place.file(number + 1))
    new = not newest.exists()
    descriptor = os.open(newest, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines  # a line that a power cut has torn
        while lines:
            lines = lines[os.write(descriptor, lines) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(place.folder)
