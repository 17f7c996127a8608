"""Segments: what one group commit stored of the metrics, until compaction makes chunks of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from tenantry.master.domain.records import StreamName
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of, is_sqlite
from tenantry.master.sql.shortcut import run_on_sqlite
from tenantry.master.sql.tables import segments as table

_columns: Final = (
    table.c.received_ms,
    table.c.frames,
    table.c.samples,
    table.c.first_ms,
    table.c.last_ms,
    table.c.data,
)
_described: Final = select(*_columns[:-1]).order_by(table.c.received_ms)
_data: Final = select(table.c.data).where(table.c.received_ms == bindparam("number"))
_insert: Final = insert(table)
_INSERT_SQLITE: Final = (
    "INSERT INTO segments (received_ms, frames, samples, first_ms, last_ms, bytes, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_oldest: Final = select(*_columns).order_by(table.c.received_ms).limit(bindparam("most"))
_newest: Final = select(func.coalesce(func.max(table.c.received_ms), 0))
_totals: Final = select(
    func.count(),
    func.coalesce(func.sum(table.c.frames), 0),
    func.coalesce(func.sum(table.c.samples), 0),
    func.coalesce(func.sum(table.c.bytes), 0),
    func.min(table.c.first_ms),
    func.max(table.c.last_ms),
)


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """What is known of a segment without its data; times in Unix milliseconds."""

    received_ms: int
    frames: int
    samples: int
    first_ms: int
    last_ms: int

    @property
    def id(self) -> int:
        """Its number: the time of its receipt, which no other segment has."""
        return self.received_ms


@dataclass(frozen=True, slots=True)
class StoredSegment(SegmentRow):
    """A segment as stored: ``data`` as `timeseries.segments` encodes it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SegmentTotals:
    """What all segments hold; event times in Unix milliseconds, None when there are none."""

    segments: int
    frames: int
    samples: int
    bytes: int
    oldest_ms: int | None
    newest_ms: int | None


class SegmentStore:
    """Segments, in the order in which they were received."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def append(self, data: bytes, *, received_ms: int, frames: int, samples: int, first_ms: int, last_ms: int) -> None:
        """Store the segment of one group commit. No other in the store is of the same time."""
        self._changes.streams.add(StreamName.METRICS_MASTER)
        if is_sqlite(self._connection):
            row = (received_ms, frames, samples, first_ms, last_ms, len(data), data)
            run_on_sqlite(self._connection, _INSERT_SQLITE, row)
            return
        self._connection.execute(
            _insert,
            {
                "received_ms": received_ms,
                "frames": frames,
                "samples": samples,
                "first_ms": first_ms,
                "last_ms": last_ms,
                "bytes": len(data),
                "data": data,
            },
        )

    def oldest(self, limit: int) -> list[StoredSegment]:
        """At most ``limit`` segments, oldest first."""
        return [StoredSegment(*row) for row in self._connection.execute(_oldest, {"most": limit})]

    def listing(self, received_from: int = 0) -> list[SegmentRow]:
        """All segments received at or after this time, oldest first, without their data."""
        query = _described.where(table.c.received_ms >= received_from)
        return [SegmentRow(*row) for row in self._connection.execute(query)]

    def data(self, segment_id: int) -> bytes:
        """The data of a segment that `listing` gave in this transaction."""
        return bytes(self._connection.execute(_data, {"number": segment_id}).scalar_one())

    def delete(self, ids: Sequence[int]) -> None:
        """Erase segments."""
        if ids:
            self._connection.execute(delete(table).where(any_of(self._connection, table.c.received_ms, ids)))

    def newest_received_ms(self) -> int:
        """When the newest segment was received; 0 when there is none."""
        return int(self._connection.execute(_newest).scalar_one())

    def totals(self) -> SegmentTotals:
        """What all segments hold together."""
        return SegmentTotals(*(_whole(value) for value in self._connection.execute(_totals).one()))


def _whole(value: Any) -> Any:
    # PostgreSQL sums bigint as numeric.
    return None if value is None else int(value)
