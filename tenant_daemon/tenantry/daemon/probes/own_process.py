"""The daemon itself: what it costs, and what waits in its spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading, share
from tenantry.daemon.domain.standing import Standing
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import SpoolStatus

_LABELS: Final = (("process.executable.name", "tenantry-daemon"),)


class SelfProbe:
    """`process.*` of this process, `tenantry.daemon.spool.*`, and `tenantry.daemon.*` about its standing with the Master.

    ``process.cpu.utilization`` is the share of one core (1 = a whole core) since the previous read, over all threads; the
    first read has none. ``spool`` gives what waits to be delivered, None when nobody knows; ``standing`` what is known of certificate,
    licence and clock. Both are called in the thread of the read and must be quick.
    """

    name: ClassVar[str] = "self"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(
        self,
        spool: Callable[[], SpoolStatus | None] = lambda: None,
        standing: Callable[[], Standing] = Standing,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._spool = spool
        self._standing = standing
        self._wall = wall
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
        return [*readings, *self._read_standing()]

    def _read_standing(self) -> Iterator[Reading]:
        standing, now_ms = self._standing(), self._wall() * 1000
        for name, milliseconds in (
            ("tenantry.daemon.certificate.remaining", _left(standing.certificate_end_ms, now_ms)),
            ("tenantry.daemon.licence.remaining", _left(standing.licence_end_ms, now_ms)),
            ("tenantry.daemon.clock.offset", standing.clock_offset_ms),
        ):
            if milliseconds is not None:
                yield Reading(name, "s", SeriesKind.GAUGE, (), milliseconds / 1000)


def _left(end_ms: int | None, now_ms: float) -> float | None:
    return None if end_ms is None else end_ms - now_ms
