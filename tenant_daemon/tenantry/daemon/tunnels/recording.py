"""Recordings of what goes through connections, where the policy asks for them: a file for each connection.

A file begins with a line of JSON (who, where to, when). Behind it come records: a byte for the direction (``>`` to the target, ``<``
from it), eight for the milliseconds since the begin, four for the length, all big-endian, and then the bytes. What cannot be recorded
does not go on: a connection whose recording fails or reaches its limit is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from tenantry.daemon.tunnels.disk_work import in_thread, outlast
from tenantry.process.files import FileExposed, private_directory

TO_TARGET: Final = b">"
FROM_TARGET: Final = b"<"
_HEAD: Final = struct.Struct(">cQI")
_MOST_WAITING: Final = 8 << 20


class RecordingFailed(Exception):
    """A recording cannot be kept; the message says why."""


class Recordings:
    """A folder of recordings, in which the oldest that are complete give way when there is no room."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: int | None = None
        self._open: set[Path] = set()
        self._alone = threading.Lock()

    def start(self, name: str, facts: Mapping[str, Any]) -> tuple[Path, BinaryIO]:
        """A new file of mode 0600 with its first line. Blocks; raises OSError, FileExposed."""
        private_directory(self._folder)
        path = self._folder / f"{name}.tunnel"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with self._alone:
            self._open.add(path)
        file = os.fdopen(descriptor, "wb")
        try:
            file.write(json.dumps(dict(facts)).encode() + b"\n")
            file.flush()
        except OSError:
            self.finish(path, file)
            raise
        return path, file

    def write(self, file: BinaryIO, data: bytes, most_bytes: int) -> None:
        """Put data behind; all recordings together stay below ``most_bytes``. Blocks; raises OSError."""
        with self._alone:
            used = self._measure() if self._used is None else self._used
            if used + len(data) > most_bytes:
                used = self._make_room(most_bytes - len(data))
            self._used = used + len(data)
        file.write(data)
        file.flush()

    def finish(self, path: Path, file: BinaryIO) -> None:
        """This one is complete. Blocks; raises OSError."""
        with self._alone:
            self._open.discard(path)
        file.close()

    def _measure(self) -> int:
        return sum(size for _, size, _ in self._list())

    def _make_room(self, most_bytes: int) -> int:
        found = self._list()
        used = sum(size for _, size, _ in found)
        for _, size, path in found:
            if used <= most_bytes * 3 // 4:
                break
            if path not in self._open:
                path.unlink(missing_ok=True)
                used -= size
        if used > most_bytes:
            raise OSError(errno.ENOSPC, "the limit of all recordings is reached")
        return used

    def _list(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self._folder.glob("*.tunnel"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat(follow_symlinks=False)
                found.append((status.st_mtime_ns, status.st_size, path))
        return sorted(found)


class Recording:
    """The recording of one connection, while the context is open. ``failed`` is set when it cannot go on."""

    def __init__(self, kept: Recordings, name: str, facts: Mapping[str, Any], most_bytes: int) -> None:
        """``most_bytes``: of all recordings of ``kept`` together."""
        self._kept = kept
        self._name = name
        self._facts = facts
        self._most_bytes = most_bytes
        self._began = time.monotonic()
        self._place: tuple[Path, BinaryIO] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._came = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None
        self.failed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Raises RecordingFailed."""
        starting = in_thread(self._kept.start, self._name, self._facts)
        cancelled = await outlast(starting)
        try:
            self._place = starting.result()
        except (OSError, FileExposed) as error:
            raise RecordingFailed(getattr(error, "strerror", None) or str(error)) from None
        if cancelled:
            await self._end()
            raise asyncio.CancelledError
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Everything that was noted is in the file then, in its order, or nothing behind what could not be written."""
        if await self._end():
            raise asyncio.CancelledError

    def add(self, data: bytes | memoryview, *, to_target: bool) -> None:
        """Note what has passed. Sets ``failed`` when the disk is too slow."""
        if self.failed.is_set():
            return
        direction = TO_TARGET if to_target else FROM_TARGET
        milliseconds = int((time.monotonic() - self._began) * 1000)
        self._waiting += [_HEAD.pack(direction, milliseconds, len(data)), bytes(data)]
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _MOST_WAITING:
            self.failed.set()
        self._came.set()

    async def write(self) -> None:
        """Write what passes, until it fails: then ``failed`` is set. To be cancelled when the connection is over."""
        while self._place is not None and not self.failed.is_set():
            await self._came.wait()
            self._came.clear()
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._writing = in_thread(self._kept.write, self._place[1], data, self._most_bytes)
            try:
                await asyncio.shield(self._writing)  # whoever cancels this leaves the write to `__aexit__`
            except OSError:
                self.failed.set()

    async def _end(self) -> bool:
        """Whether somebody wanted to cancel it meanwhile: a file that stays open, or lacks its end, would be worse."""
        place, self._place = self._place, None
        if place is None:
            return False
        cancelled = self._writing is not None and await outlast(self._writing)
        intact = self._writing is None or self._writing.exception() is None
        ending = in_thread(self._finish, place, b"".join(self._waiting) if intact else b"")
        self._waiting.clear()
        cancelled = await outlast(ending) or cancelled
        with contextlib.suppress(OSError):
            ending.result()
        return cancelled

    def _finish(self, place: tuple[Path, BinaryIO], rest: bytes) -> None:
        try:
            if rest:
                self._kept.write(place[1], rest, self._most_bytes)
        finally:
            self._kept.finish(*place)
