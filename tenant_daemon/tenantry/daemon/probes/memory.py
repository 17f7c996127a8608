"""Main memory and swap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading, share
from tenantry.protocol.layouts import SeriesKind

# psutil turns the kernel's pages swapped in and out into bytes with this size on Linux, whatever the machine's pages are.
_PSUTIL_PAGE: Final = 4_096


class MemoryProbe:
    """`system.memory.*` by ``system.memory.state``; the states add up to the limit.

    *used* is what cannot be had without swapping (total − available), *free* is unused, *cached* is the rest: caches and
    buffers that the kernel gives back. ``system.memory.utilization`` is given for *used* alone, from 0 to 1.
    """

    name: ClassVar[str] = "memory"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()

    def read(self) -> Sequence[Reading]:
        memory = psutil.virtual_memory()
        available = min(memory.available, memory.total)
        used = memory.total - available
        free = min(memory.free, available)
        sizes = {"used": used, "free": free, "cached": available - free}
        readings = [
            Reading("system.memory.usage", "By", SeriesKind.GAUGE, (("system.memory.state", state),), float(size))
            for state, size in sizes.items()
        ]
        readings.append(Reading("system.memory.limit", "By", SeriesKind.GAUGE, (), float(memory.total)))
        if memory.total:
            labels = (("system.memory.state", "used"),)
            readings.append(
                Reading("system.memory.utilization", "1", SeriesKind.GAUGE, labels, share(used, memory.total))
            )
        return readings


class PagingProbe:
    """`system.paging.*` over all swap devices; a machine without swap has none of it.

    ``system.paging.utilization`` is given for ``system.paging.state`` *used* alone, from 0 to 1;
    ``system.paging.operations`` counts pages by ``system.paging.direction``.
    """

    name: ClassVar[str] = "paging"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()

    def read(self) -> Sequence[Reading]:
        swap = psutil.swap_memory()
        if not swap.total:
            return []
        used = (("system.paging.state", "used"),)
        free = (("system.paging.state", "free"),)
        readings = [
            Reading("system.paging.usage", "By", SeriesKind.GAUGE, used, float(swap.used)),
            Reading("system.paging.usage", "By", SeriesKind.GAUGE, free, float(swap.free)),
            Reading("system.paging.utilization", "1", SeriesKind.GAUGE, used, share(swap.used, swap.total)),
        ]
        for direction, size in (("in", swap.sin), ("out", swap.sout)):
            labels = (("system.paging.direction", direction),)
            pages = float(size // _PSUTIL_PAGE)
            readings.append(Reading("system.paging.operations", "{operation}", SeriesKind.COUNTER, labels, pages))
        return readings
