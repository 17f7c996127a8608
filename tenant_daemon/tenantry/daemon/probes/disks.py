"""Disks: what they read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.probes.selection import Selection
from tenantry.protocol.layouts import SeriesKind

LIMIT: Final = 16
_SYS_BLOCK: Final = Path("/sys/block")
_NO_DISKS: Final = ("loop", "ram", "zram", "fd", "sr", "nbd")


def list_whole_disks() -> set[str] | None:
    """Names of the block devices that are no partitions; None where the kernel does not say."""
    try:
        return {entry.name for entry in _SYS_BLOCK.iterdir()}
    except OSError:
        return None


class DiskProbe:
    """`system.disk.io`, `.operations` and `.io_time` by ``system.device`` and ``disk.io.direction``; at most 16 disks.

    Whole disks only, so that nothing is counted with its partitions again; no loop devices, RAM disks or drives for media.
    Counters since the start of the machine.
    """

    name: ClassVar[str] = "disk"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self, *, whole_disks: Callable[[], Iterable[str] | None] = list_whole_disks) -> None:
        self.notes: tuple[str, ...] = ()
        self._whole_disks = whole_disks
        self._selection = Selection(LIMIT)

    def read(self) -> Sequence[Reading]:
        try:
            counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
        except (OSError, RuntimeError, NotImplementedError) as error:
            self.notes = (f"the counters of the disks cannot be read: {error}",)
            return []
        whole = self._whole_disks()
        names = [name for name in counters if (whole is None or name in whole) and not name.startswith(_NO_DISKS)]
        readings: list[Reading] = []
        for name in self._selection.choose(names):
            disk = counters[name]
            device = ("system.device", name)
            for direction, size, count in (
                ("read", disk.read_bytes, disk.read_count),
                ("write", disk.write_bytes, disk.write_count),
            ):
                labels = (("disk.io.direction", direction), device)
                readings.append(Reading("system.disk.io", "By", SeriesKind.COUNTER, labels, float(size)))
                readings.append(
                    Reading("system.disk.operations", "{operation}", SeriesKind.COUNTER, labels, float(count))
                )
            busy_ms = getattr(disk, "busy_time", None)
            if busy_ms is not None:
                readings.append(Reading("system.disk.io_time", "s", SeriesKind.COUNTER, (device,), busy_ms / 1_000))
        self.notes = self._selection.note("disks")
        return readings
