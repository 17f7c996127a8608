"""How long the machine runs, and how many processes run on it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading
from tenantry.protocol.layouts import SeriesKind

_PROC: Final = Path("/proc")

# Letters of the state in proc(5), and psutil's words, -> values of `process.state`. `disk_sleep` is ours: the conventions
# have no word for a process that waits for I/O and cannot be killed, and it is the one that people look for.
_LETTERS: Final = {
    "R": "running",
    "S": "sleeping",
    "I": "sleeping",
    "D": "disk_sleep",
    "T": "stopped",
    "t": "stopped",
    "Z": "defunct",
    "X": "defunct",
}
_WORDS: Final = {
    psutil.STATUS_RUNNING: "running",
    psutil.STATUS_DISK_SLEEP: "disk_sleep",
    psutil.STATUS_STOPPED: "stopped",
    psutil.STATUS_TRACING_STOP: "stopped",
    psutil.STATUS_ZOMBIE: "defunct",
    psutil.STATUS_DEAD: "defunct",
}
_STATES: Final = ("running", "sleeping", "disk_sleep", "stopped", "defunct")


class UptimeProbe:
    """`system.uptime` in seconds, times of sleep included."""

    name: ClassVar[str] = "uptime"
    default_interval_s: ClassVar[float] = 60.0

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()

    def read(self) -> Sequence[Reading]:
        # The boot time that psutil has moves whenever somebody sets the clock; this clock of Linux does not.
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        seconds = time.time() - psutil.boot_time() if clock is None else time.clock_gettime(clock)
        return [Reading("system.uptime", "s", SeriesKind.GAUGE, (), max(0.0, seconds))]


class ProcessesProbe:
    """`system.process.count` by ``process.state``, for every state, those with none included."""

    name: ClassVar[str] = "processes"
    default_interval_s: ClassVar[float] = 60.0

    def __init__(self, *, proc: Path = _PROC) -> None:
        self.notes: tuple[str, ...] = ()
        self._proc = proc

    def read(self) -> Sequence[Reading]:
        try:
            counts = self._count_in_proc() if (self._proc / "self" / "stat").exists() else _count_with_psutil()
        except (OSError, psutil.Error) as error:
            self.notes = (f"the processes cannot be counted: {error}",)
            return []
        self.notes = ()
        return [
            Reading(
                "system.process.count", "{process}", SeriesKind.GAUGE, (("process.state", state),), float(counts[state])
            )
            for state in _STATES
        ]

    def _count_in_proc(self) -> Counter[str]:
        """One short read a process: psutil's way costs several times as much, which thousands of processes make felt."""
        counts: Counter[str] = Counter()
        for entry in os.scandir(self._proc):
            if not entry.name.isdecimal():
                continue
            try:
                descriptor = os.open(f"{entry.path}/stat", os.O_RDONLY)
            except OSError:  # it has ended in the meantime, or is hidden from us
                continue
            try:
                head = os.read(descriptor, 512)
            except OSError:
                continue
            finally:
                os.close(descriptor)
            # "pid (name) state …": the name may hold anything, a closing parenthesis too.
            state = head[head.rfind(b")") + 2 :][:1].decode("ascii", "replace")
            counts[_LETTERS.get(state, "sleeping")] += 1
        return counts


def _count_with_psutil() -> Counter[str]:
    counts: Counter[str] = Counter()
    for process in psutil.process_iter(["status"]):
        counts[_WORDS.get(process.info["status"], "sleeping")] += 1
    return counts
