"""A peer's process: on the server's core, ready when its port answers, gone at the end."""

import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.peers.installing import PeerMissing

START_S = 60.0


def free_port() -> int:
    """A port that nobody listens on now, below 32,768: Zabbix takes no other."""
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise PeerMissing("no port is free")


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, folder: Path) -> Iterator[int]:
    """Run a server until the block ends; gives its process id. Raises PeerMissing when it does not answer."""
    log_file = folder / "log"
    with log_file.open("wb") as log, machine.pinned(machine.SERVER_CORES):
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait(process, port, log_file)
        with machine.pinned(machine.LOAD_CORES):
            yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise PeerMissing(f"it did not start: {log.read_text(errors='replace')[-600:]}")


def settle(pid: int, seconds: float = 30.0) -> None:
    """Wait until a server has nothing more to do with what it took (or for so long)."""
    deadline = time.monotonic() + seconds
    calm = 0
    while calm < 2 and time.monotonic() < deadline:
        before = machine.cpu_seconds(pid)
        time.sleep(0.5)
        calm = calm + 1 if machine.cpu_seconds(pid) - before <= 0.02 else 0
