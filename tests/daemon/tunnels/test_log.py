"""The log's writer: each line is written, and written once."""

import asyncio
import threading
from pathlib import Path

import pytest

from tenantry.daemon.tunnels import log as log_module
from tenantry.daemon.tunnels.log import TUNNELS, Place, TunnelLog, read_log
from tests.servers.deadlines import PATIENCE_S, eventually, within


async def test_a_write_that_runs_at_the_end_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the writer is cancelled meanwhile; what came behind it is written too."""
    begun, go_on, append = threading.Event(), threading.Event(), log_module._append

    def append_slowly(place: Place, lines: bytes, file_bytes: int) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        append(place, lines, file_bytes)

    monkeypatch.setattr(log_module, "_append", append_slowly)
    log = TunnelLog(tmp_path, TUNNELS)
    async with within(PATIENCE_S), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(log.run())
        log.note("first", 1)
        await eventually(begun.is_set, "the write")
        log.note("last", 2)
        for _ in range(2):
            writing.cancel()
            await asyncio.wait([writing], timeout=0.01)
        go_on.set()
    assert [line["event"] for line in read_log(tmp_path, TUNNELS)] == ["first", "last"]
