"""The file of a recording: what was noted is in it to the end and in its order, whenever the connection is over."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from tenantry.daemon.tunnels.recording import Recording, RecordingFailed, Recordings
from tests.daemon.tunnels.serving import read_recording
from tests.servers.deadlines import PATIENCE_S, eventually, within

MOST = 1 << 20


class SlowRecordings(Recordings):
    """On a disk that is slow, and can break."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.broken = False
        self.files: list[BinaryIO] = []

    def write(self, file: BinaryIO, data: bytes, most_bytes: int) -> None:
        """When it is told to."""
        self.files.append(file)
        self.begun.set()
        self.go_on.wait(PATIENCE_S)
        if self.broken:
            self.broken = False
            raise OSError("the disk is gone")
        super().write(file, data, most_bytes)


@contextlib.asynccontextmanager
async def over_in_the_middle(kept: SlowRecordings, cancel_again: bool = False) -> AsyncIterator[None]:
    """A recording whose connection is over while its first write runs; the block is run while it waits for that."""
    recording = Recording(kept, "one", {"a": 1}, MOST)

    async def connection() -> None:
        async with recording, asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(recording.write())
            recording.add(b"first", to_target=True)
            await eventually(kept.begun.is_set, "the write")
            recording.add(b"last", to_target=False)
            writing.cancel()

    async with within(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(connection())
        await eventually(kept.begun.is_set, "the write")
        await eventually(lambda: recording._place is None, "the end of the recording")
        if cancel_again:
            running.cancel()
        yield
        kept.go_on.set()
    assert running.cancelled() is cancel_again


@pytest.mark.parametrize("cancel_again", [False, True])
async def test_a_write_that_runs_is_waited_for(tmp_path: Path, cancel_again: bool) -> None:
    """The rest comes behind it and the file is closed after it, also when somebody cancels the waiting."""
    kept = SlowRecordings(tmp_path / "kept")
    async with over_in_the_middle(kept, cancel_again):
        pass
    head, parts = read_recording(tmp_path / "kept" / "one.tunnel")
    assert (head, parts) == ({"a": 1}, [(">", b"first"), ("<", b"last")])
    assert all(file.closed for file in kept.files) and not kept._open


async def test_nothing_stands_behind_what_was_not_written(tmp_path: Path) -> None:
    """A hole would not be seen: where a write fails the file ends."""
    kept = SlowRecordings(tmp_path / "kept")
    async with over_in_the_middle(kept):
        kept.broken = True
    assert read_recording(tmp_path / "kept" / "one.tunnel") == ({"a": 1}, [])
    assert all(file.closed for file in kept.files) and not kept._open


async def test_a_write_that_has_not_begun_is_not_lost(tmp_path: Path) -> None:
    """With all threads busy it waits in front of them; so it does when the connection is over."""
    busy = threading.Event()
    kept = Recordings(tmp_path / "kept")
    recording = Recording(kept, "one", {}, MOST)
    with ThreadPoolExecutor(max_workers=1) as threads:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(threads)
        async with within(PATIENCE_S), asyncio.TaskGroup() as tasks:

            async def connection() -> None:
                async with recording, asyncio.TaskGroup() as parts:
                    held_up = loop.run_in_executor(None, busy.wait, PATIENCE_S)
                    writing = parts.create_task(recording.write())
                    recording.add(b"first", to_target=True)
                    await eventually(lambda: recording._writing is not None, "the write")
                    writing.cancel()
                assert await held_up

            tasks.create_task(connection())
            await eventually(lambda: recording._writing is not None, "the write")
            busy.set()
    assert read_recording(tmp_path / "kept" / "one.tunnel") == ({}, [(">", b"first")])


async def test_a_recording_that_cannot_begin_leaves_nothing_open(tmp_path: Path) -> None:
    """Its name is taken."""
    kept = Recordings(tmp_path / "kept")
    async with Recording(kept, "one", {}, MOST):
        with pytest.raises(RecordingFailed):
            await Recording(kept, "one", {}, MOST).__aenter__()
    assert not kept._open
