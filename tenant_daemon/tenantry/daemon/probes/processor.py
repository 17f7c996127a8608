"""The processor: how busy it is, and the load that waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading, share
from tenantry.protocol.layouts import SeriesKind

# psutil's names of the modes -> values of `cpu.mode` in the conventions. Guest time is part of user time already.
_MODES: Final = {
    "user": "user",
    "nice": "nice",
    "system": "system",
    "idle": "idle",
    "iowait": "iowait",
    "irq": "interrupt",
    "softirq": "interrupt",
    "interrupt": "interrupt",
    "dpc": "interrupt",
    "steal": "steal",
}
_RESTING: Final = ("idle", "iowait")


class CpuProbe:
    """`system.cpu.*` over all logical CPUs.

    ``system.cpu.time`` counts seconds by ``cpu.mode``. ``system.cpu.utilization`` has no labels: it is the one number that
    rules and tables want, the share (0 to 1) of the time since the previous read in which the CPUs were neither idle nor
    waiting for I/O. The first read has none.
    """

    name: ClassVar[str] = "cpu"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._previous: dict[str, float] | None = None

    def read(self) -> Sequence[Reading]:
        times = _never_falling(self._previous or {}, _times_by_mode())
        readings = [
            Reading("system.cpu.time", "s", SeriesKind.COUNTER, (("cpu.mode", mode),), seconds)
            for mode, seconds in times.items()
        ]
        count = psutil.cpu_count(logical=True)
        if count:
            readings.append(Reading("system.cpu.logical.count", "{cpu}", SeriesKind.GAUGE, (), float(count)))
        if self._previous is not None:
            busy = busy_share(self._previous, times)
            if busy is not None:
                readings.append(Reading("system.cpu.utilization", "1", SeriesKind.GAUGE, (), busy))
        self._previous = times
        return readings


def busy_share(earlier: dict[str, float], later: dict[str, float]) -> float | None:
    """The share of the time between two readings of the modes that was work; None when no time has passed.

    Kernels let single modes run backwards a little (iowait, steal on a migrated machine): such a step counts as none.
    """
    steps = {mode: max(0.0, seconds - earlier.get(mode, 0.0)) for mode, seconds in later.items()}
    total = sum(steps.values())
    if total <= 0:
        return None
    return share(total - sum(steps.get(mode, 0.0) for mode in _RESTING), total)


def _never_falling(earlier: dict[str, float], later: dict[str, float]) -> dict[str, float]:
    """Counters as they are to be sent: a small step back of the kernel would look like a restart of the machine."""
    return {mode: max(seconds, earlier.get(mode, 0.0)) for mode, seconds in later.items()}


def _times_by_mode() -> dict[str, float]:
    times: dict[str, float] = {}
    for field, seconds in psutil.cpu_times()._asdict().items():
        mode = _MODES.get(field)
        if mode:
            times[mode] = times.get(mode, 0.0) + seconds
    return times


class LoadProbe:
    """`system.cpu.load_average.1m`, `.5m` and `.15m`: runnable threads, not divided by the CPUs.

    The conventions have no load; these are the names and the unit of the OpenTelemetry Collector's host metrics.
    """

    name: ClassVar[str] = "load"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()

    def read(self) -> Sequence[Reading]:
        return [
            Reading(f"system.cpu.load_average.{span}", "{thread}", SeriesKind.GAUGE, (), load)
            for span, load in zip(("1m", "5m", "15m"), psutil.getloadavg(), strict=True)
        ]
