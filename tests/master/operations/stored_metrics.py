"""Commits of metric frames as ingest writes them, and what must then be stored, kept by a model that does nothing clever."""

import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.metric_ticks import Arrival, Moment, Sample, Wanted
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.timeseries.frames import Frame, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout
from tenantry.protocol.messages import Configuration

NAN = math.nan
Row = tuple[int, tuple[float, ...]]  # timestamp, one value for each series

NARROW = make_layout([Series("system.cpu.utilization", "1", SeriesKind.GAUGE, (("cpu", "0"),))])
WIDE = make_layout(
    [
        Series("system.memory.usage", "By", SeriesKind.GAUGE, (("state", "free"),)),
        Series("system.memory.usage", "By", SeriesKind.GAUGE, (("state", "used"),)),
        Series("system.network.io", "By", SeriesKind.COUNTER),
    ]
)
LAYOUTS = {1: NARROW, 2: WIDE}


def register_tenants(database: Database, count: int = 3) -> list[Tenant]:
    """Tenants 1 to ``count`` and both layouts, under the numbers of `LAYOUTS`."""
    with database.write() as transaction:
        transaction.layouts.insert_missing([NARROW])
        transaction.layouts.insert_missing([WIDE])
        return [
            transaction.tenants.insert(
                NewTenant(guid_of(number), f"tenant {number}", "one", "", (), (), Configuration(), 1_000)
            )
            for number in range(1, count + 1)
        ]


def guid_of(number: int) -> str:
    """The GUID of a Tenant by its number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def frame(tenant_id: int, layout_id: int, received_at: int, rows: Iterable[Row]) -> Frame:
    """A frame of these rows."""
    rows = list(rows)
    values = b"".join(struct.pack(f"<{len(row)}d", *row) for _, row in rows)
    return Frame(tenant_id, layout_id, 1, received_at, tuple(timestamp for timestamp, _ in rows), values)


def commit(database: Database, frames: Sequence[Frame]) -> None:
    """Store one segment, as a group commit does."""
    segment = encode_segment(FrameTable.of_frames(frames))
    with database.write() as transaction:
        transaction.segments.append(
            segment.data,
            received_ms=frames[0].received_at,
            frames=segment.summary.frames,
            samples=segment.summary.samples,
            first_ms=segment.summary.first_timestamp,
            last_ms=segment.summary.last_timestamp,
        )


@dataclass(slots=True)
class StoredModel:
    """Every sample that was committed."""

    samples: list[Sample] = field(default_factory=list)

    def add(self, frames: Sequence[Frame]) -> None:
        """The samples of one commit."""
        repeats: Counter[tuple[int, int, int]] = Counter()
        for one in frames:
            layout: Layout = LAYOUTS[one.layout_id]
            rows = struct.iter_unpack(f"<{len(layout.series)}d", one.values)
            for timestamp, row in zip(one.timestamps, rows, strict=True):
                key = (one.tenant_id, one.layout_id, timestamp)
                for index, value in enumerate(row):
                    if not math.isnan(value):
                        self.samples.append(
                            Sample(
                                timestamp,
                                one.tenant_id,
                                one.layout_id,
                                one.received_at,
                                repeats[key],
                                index,
                                layout.series[index],
                                value,
                            )
                        )
                repeats[key] += 1

    def by_moment(
        self, wanted: Wanted, start_ms: int | None = None, end_ms: int | None = None, *, ascending: bool = True
    ) -> list[Sample]:
        """By event time."""
        found = [
            one
            for one in self._of(wanted)
            if (start_ms is None or one.timestamp >= start_ms) and (end_ms is None or one.timestamp < end_ms)
        ]
        return sorted(found, key=_moment, reverse=not ascending)

    def by_arrival(self, wanted: Wanted) -> list[Sample]:
        """In the order of storing."""
        return sorted(self._of(wanted), key=_arrival)

    def _of(self, wanted: Wanted) -> list[Sample]:
        return [
            one
            for one in self.samples
            if (wanted.tenant_ids is None or one.tenant_id in wanted.tenant_ids)
            and (not wanted.metrics or one.series.name in wanted.metrics)
        ]


def _moment(sample: Sample) -> Moment:
    return sample.moment


def _arrival(sample: Sample) -> Arrival:
    return sample.arrival
