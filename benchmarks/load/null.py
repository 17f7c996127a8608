"""The null server as a process, for as long as a block lasts."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from tenantry.transport.settings import SERVER_ENVIRONMENT

CHECKOUT = Path(__file__).parents[2]


@contextlib.contextmanager
def null_server(data: Path) -> Iterator[tuple[int, str]]:
    """Its process id and address, on the cores of servers."""
    with machine.pinned(machine.SERVER_CORES):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.null_server", str(data)],
            cwd=CHECKOUT,
            env={**SERVER_ENVIRONMENT, **os.environ},
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the null server did not start")
        with machine.pinned(machine.LOAD_CORES):
            yield process.pid, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
