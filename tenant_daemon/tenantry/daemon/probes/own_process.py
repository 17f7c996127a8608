"""The daemon itself: what it costs, and what waits in its spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading, share
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import SpoolStatus

_LABELS: Final = (("process.executable.name", "tenantry-daemon"),)


class SelfProbe:
    """`process.*` of this process, and `tenantry.daemon.spool.*`.

    ``process.cpu.utilization`` is the share of one core (1 = a whole core) since the previous read, over all threads; the
    first read has none. ``spool`` gives what waits to be delivered, None when nobody knows; it is called in the thread
    of the read and must be quick.
    """

    name: ClassVar[str] = "self"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(
        self,
        spool: Callable[[], SpoolStatus | None] = lambda: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._spool = spool
        self._monotonic = monotonic
        self._cpu_seconds = cpu_seconds
        self._process = psutil.Process()
        self._previous: tuple[float, float] | None = None

    def read(self) -> Sequence[Reading]:
        now, used = self._monotonic(), self._cpu_seconds()
        readings = [Reading("process.cpu.time", "s", SeriesKind.COUNTER, _LABELS, used)]
        if self._previous is not None and now > self._previous[0]:
            busy = share(max(0.0, used - self._previous[1]), now - self._previous[0])
            readings.append(Reading("process.cpu.utilization", "1", SeriesKind.GAUGE, _LABELS, busy))
        self._previous = (now, used)
        self.notes = ()
        try:
            resident = float(self._process.memory_info().rss)
            threads = float(self._process.num_threads())
        except psutil.Error as error:
            self.notes = (f"this process cannot be measured: {error}",)
        else:
            readings.append(Reading("process.memory.usage", "By", SeriesKind.GAUGE, _LABELS, resident))
            readings.append(Reading("process.thread.count", "{thread}", SeriesKind.GAUGE, _LABELS, threads))
        status = self._spool()
        if status is not None:
            readings += [
                Reading(
                    "tenantry.daemon.spool.records",
                    "{record}",
                    SeriesKind.GAUGE,
                    (),
                    float(status.unacknowledged_records),
                ),
                Reading("tenantry.daemon.spool.usage", "By", SeriesKind.GAUGE, (), float(status.bytes)),
                Reading("tenantry.daemon.spool.limit", "By", SeriesKind.GAUGE, (), float(status.capacity_bytes)),
            ]
        return readings
