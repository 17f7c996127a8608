"""Programs of other people that tests and benchmarks run; `make programs` installs them."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
"""Where programs are looked for: those of administrators too."""


START_S = 30.0
_LISTENING = "0A"


class ProgramNotServing(AssertionError):
    """A program does not take connections; carries what it logged."""


def find_program(name: str) -> Path | None:
    """A program of the system, or None."""
    found = shutil.which(name, path=PLACES)
    return None if found is None else Path(found)


def required(name: str) -> Path:
    """A program that a test needs; without it the test is skipped, which CI counts as a failure."""
    found = find_program(name)
    if found is None:
        pytest.skip(f"{name} is missing, and `make programs` could not install it")
    return found


def wait_for_port(
    port: int, process: "subprocess.Popen[bytes]", log: Path, seconds: float, *, connect: bool = True
) -> None:
    """Wait until a server on loopback takes connections. Raises ProgramNotServing with what it has logged."""
    deadline = time.monotonic() + seconds
    while not (_takes_connections(port) if connect else somebody_listens(port)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ProgramNotServing(log.read_text(errors="replace")[-4000:])
        time.sleep(0.02)  # there is no event to wait for: the port is the event


def _takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), START_S).close()
    except OSError:
        return False
    return True


def somebody_listens(port: int) -> bool:
    """Whether a port of loopback, or of every address, is listened on: without a connection, which a server might count."""
    for table in ("tcp", "tcp6"):
        rows = (line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:])
        if any(row[1].endswith(f":{port:04X}") and row[3] == _LISTENING for row in rows):
            return True
    return False


@contextmanager
def serving(command: Sequence[str], port: int, log: Path, *, connect: bool = True) -> Iterator[None]:
    """Run a server until the block ends. ``connect``: by a connection it is seen that it listens; else the kernel's table says so."""
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)
        try:
            wait_for_port(port, process, log, START_S, connect=connect)
            yield
        finally:
            process.terminate()
            process.wait(START_S)
