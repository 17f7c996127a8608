"""The machine: processor time and memory of process trees, and which core is whose."""

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = {CORES[0]}
"""Where what is measured runs."""
LOAD_CORES = set(CORES[1:]) or set(CORES)
"""Where the load comes from."""


def raise_file_limit() -> int:
    """As many open files as this user may have; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Run, and start programs, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += parents.get(one, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, …"""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree, with that of its children that have ended, in seconds."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            total += sum(int(field) for field in _stat(one)[11:15])
    return total / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of one process."""
    pages = (_PROC / str(pid) / "statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Busy:
    """What a span of time cost a server and the load generator, in seconds."""

    wall: float
    server: float
    load: float

    @property
    def server_share(self) -> float:
        """Part of one core that the server used."""
        return self.server / self.wall

    @property
    def load_share(self) -> float:
        """Part of one core that the load generator used."""
        return self.load / self.wall
