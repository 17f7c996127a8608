"""What segments and chunks have in common: ticks, and which of them are wanted.

A tick is one row of values: one Tenant, one layout, one event time, one commit. It is in exactly one segment, or in exactly one
chunk once compaction has been there, and it keeps its time of receipt on the way. Two orders are built on that: by event time,
and by arrival. Ticks of one Tenant, layout, event time and commit are told apart by their order in what stores them, which
compaction preserves.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.master.sql.chunks import StoredChunk
from tenantry.master.sql.segments import SegmentRow
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.chunks import decode_chunk, decode_received_at
from tenantry.master.timeseries.frames import FrameTable
from tenantry.master.timeseries.sealing import TimeseriesCorrupt
from tenantry.master.timeseries.segments import decode_segment
from tenantry.protocol.layouts import Layout, Series

WINDOW_SETTING: Final = "compaction.window"
DAMAGED_SETTING: Final = "compaction.damaged"
MAX_CHUNK_SPAN_MS: Final = 3_600_000
"""No chunk spans more than this, neither in event time nor in time of receipt: what bounds the search for overlaps."""
END_OF_COMMIT: Final = (1 << 63) - 1
"""As a Tenant's number in an `Arrival`: behind everything of that commit."""


class Moment(NamedTuple):
    """Where a sample stands by event time. Times are Unix ms; ``repeat`` tells equal ticks of one commit apart."""

    timestamp: int
    tenant_id: int
    layout_id: int
    received_at: int
    repeat: int
    series: int


class Arrival(NamedTuple):
    """Where a sample stands in the order of storing; the fields are those of `Moment`."""

    received_at: int
    tenant_id: int
    layout_id: int
    timestamp: int
    repeat: int
    series: int


class Tick(NamedTuple):
    """A row of values as stored: ``series`` are the wanted columns, ``values`` theirs (NaN where absent).

    ``source`` and ``place`` order the ticks that are equal in everything else.
    """

    timestamp: int
    tenant_id: int
    layout_id: int
    received_at: int
    source: int
    place: int
    series: NDArray[np.int64]
    values: NDArray[np.float64]
    present: int


class ChunkRows(NamedTuple):
    """Ticks of a chunk as columns: where they are in it, their times, and the values of the wanted series."""

    places: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    received_at: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, with both its places."""

    timestamp: int
    tenant_id: int
    layout_id: int
    received_at: int
    repeat: int
    index: int
    series: Series
    value: float

    @property
    def moment(self) -> Moment:
        """Its place by event time."""
        return Moment(self.timestamp, self.tenant_id, self.layout_id, self.received_at, self.repeat, self.index)

    @property
    def arrival(self) -> Arrival:
        """Its place in the order of storing."""
        return Arrival(self.received_at, self.tenant_id, self.layout_id, self.timestamp, self.repeat, self.index)


class LayoutCache:
    """Layouts by the Master's own number. They never change, so one cache serves all readers, in any thread."""

    def __init__(self) -> None:
        self._known: dict[int, Layout] = {}

    def get(self, transaction: Transaction, ids: Collection[int]) -> Mapping[int, Layout]:
        """At least these layouts."""
        missing = [number for number in set(ids) if number not in self._known]
        if missing:
            self._known.update(transaction.layouts.load(missing))
        return self._known


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which samples: of these Tenants (None: all), of metrics of these names (empty: all)."""

    tenant_ids: frozenset[int] | None = None
    metrics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CompactionWindow:
    """How far compaction is with the segments that it turns into chunks now.

    Of segments up to ``through`` (time of receipt) the frames of Tenants up to ``tenant_id`` are in chunks already.
    """

    through: int
    tenant_id: int

    @classmethod
    def load(cls, transaction: Transaction) -> "CompactionWindow | None":
        """The one under way; None when there is none."""
        value = transaction.settings.get(WINDOW_SETTING)
        if value is None:
            return None
        through, tenant_id = value.split()
        return cls(int(through), int(tenant_id))

    def save(self, transaction: Transaction) -> None:
        """Write it down, in the transaction of the chunks."""
        transaction.settings.set(WINDOW_SETTING, f"{self.through} {self.tenant_id}")

    def covers(self, received_ms: int) -> bool:
        """Whether it concerns the segment with this time of receipt."""
        return received_ms <= self.through


def load_damaged(transaction: Transaction) -> frozenset[int]:
    """Segments that could not be read in full. What could be read of them is in chunks, or will be with the window under way."""
    return frozenset(map(int, (transaction.settings.get(DAMAGED_SETTING) or "").split()))


def save_damaged(transaction: Transaction, segment_ids: Collection[int]) -> None:
    """Write down which segments are damaged."""
    transaction.settings.set(DAMAGED_SETTING, " ".join(map(str, sorted(segment_ids))))


DamageObserver = Callable[[str, int, str], None]
"""Told what could not be read: segment or chunk, its number, and why."""


def ignore_damage(kind: str, number: int, cause: str) -> None:
    """Tell nobody; compaction writes damaged segments down."""


@dataclass(slots=True)
class TickReader:
    """Takes wanted ticks out of segments and chunks, within one transaction."""

    transaction: Transaction
    wanted: Wanted
    layouts: LayoutCache
    on_damage: DamageObserver = ignore_damage
    known_columns: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """Of layouts that were asked for, with the same ``wanted`` metrics."""
    _window: CompactionWindow | None = None

    def __post_init__(self) -> None:
        self._window = CompactionWindow.load(self.transaction)

    def segments(self, received_from: int = 0) -> list[SegmentRow]:
        """Segments with something that is in no chunk, in the order of receipt; with ``received_from``, only from then on."""
        damaged = load_damaged(self.transaction)
        return [
            one
            for one in self.transaction.segments.listing(received_from)
            if one.id not in damaged or (self._window is not None and self._window.covers(one.received_ms))
        ]

    def columns(self, layout_id: int) -> NDArray[np.int64]:
        """The wanted series of a layout; empty when it has none."""
        known = self.known_columns.get(layout_id)
        if known is None:
            series = self.layouts.get(self.transaction, [layout_id])[layout_id].series
            names = self.wanted.metrics
            known = np.array([n for n, one in enumerate(series) if not names or one.name in names], dtype=np.int64)
            self.known_columns[layout_id] = known
        return known

    def frames_of(self, segment: SegmentRow) -> FrameTable | None:
        """The frames of a segment that are in no chunk yet, of wanted Tenants; None where there are none, or it cannot be read."""
        done = self._window.tenant_id if self._window is not None and self._window.covers(segment.received_ms) else None
        tenants = self.wanted.tenant_ids
        if done is not None and tenants is not None:
            tenants = frozenset(number for number in tenants if number > done)
        if tenants is not None and not tenants:
            return None
        data = self.transaction.segments.data(segment.id)
        try:
            frames = decode_segment(data, tenants)
        except TimeseriesCorrupt as error:
            self.on_damage("segment", segment.id, str(error))
            return None
        return frames if done is None else frames.take(np.flatnonzero(frames.tenant_ids > done))

    def from_segment(self, segment: SegmentRow, accept: Callable[[int, int], bool]) -> Iterator[Tick]:
        """Wanted ticks of a segment that are not in chunks yet; ``accept`` is asked (timestamp, received_at)."""
        frames = self.frames_of(segment)
        for number, frame in enumerate(() if frames is None else frames.frames()):
            picked = [n for n, timestamp in enumerate(frame.timestamps) if accept(timestamp, frame.received_at)]
            if not picked:
                continue
            columns = self.columns(frame.layout_id)
            if not len(columns):
                continue
            rows = np.frombuffer(frame.values, dtype="<f8").reshape(len(frame.timestamps), -1)
            for n in picked:
                values = rows[n, columns]
                yield Tick(
                    frame.timestamps[n],
                    frame.tenant_id,
                    frame.layout_id,
                    frame.received_at,
                    number,
                    n,
                    columns,
                    values,
                    len(values) - int(np.isnan(values).sum()),
                )

    def rows_of(self, chunk: StoredChunk, accept: "ChunkPicker") -> "ChunkRows | None":
        """The rows of a chunk that ``accept`` picks by their times; None where there are none, or it cannot be read."""
        columns = self.columns(chunk.layout_id)
        if not len(columns):
            return None
        try:
            received = decode_received_at(chunk.data)
            timestamps, values = decode_chunk(chunk.data, ())
            if received is None:
                received = timestamps
            picked = accept(timestamps, received)
            if not len(picked):
                return None
            _, values = decode_chunk(chunk.data, columns.tolist())
        except TimeseriesCorrupt as error:
            self.on_damage("chunk", chunk.id, str(error))
            return None
        return ChunkRows(picked, timestamps[picked], received[picked], values[picked])

    def from_chunk(self, chunk: StoredChunk, accept: "ChunkPicker") -> Iterator[Tick]:
        """Wanted ticks of a chunk, in its order; ``accept`` picks rows by their times."""
        rows = self.rows_of(chunk, accept)
        if rows is None:
            return
        columns = self.columns(chunk.layout_id)
        present = (len(columns) - np.isnan(rows.values).sum(axis=1)).tolist()
        for number, at in enumerate(rows.places.tolist()):
            yield Tick(
                int(rows.timestamps[number]),
                chunk.tenant_id,
                chunk.layout_id,
                int(rows.received_at[number]),
                chunk.id,
                at,
                columns,
                rows.values[number],
                present[number],
            )


def samples_of(ticks: Sequence[Tick], layouts: Mapping[int, Layout]) -> Iterator[Sample]:
    """Values that are present, tick by tick in the order given, series by series; equal ticks must be neighbours."""
    before: tuple[int, int, int, int] | None = None
    repeat = 0
    for tick in ticks:
        repeat = repeat + 1 if tick[:4] == before else 0
        before = tick[:4]
        series = layouts[tick.layout_id].series
        for index, value in zip(tick.series.tolist(), tick.values.tolist(), strict=True):
            if value == value:  # false for NaN alone, which is an absent value
                yield Sample(*before, repeat, index, series[index], value)


ChunkPicker = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
"""From timestamps and times of receipt to the wanted rows, in rising order."""


def by_moment(tick: Tick) -> tuple[int, ...]:
    """Sort key of ticks by event time."""
    return tick[:6]


def by_arrival(tick: Tick) -> tuple[int, ...]:
    """Sort key of ticks in the order of storing."""
    return (tick.received_at, tick.tenant_id, tick.layout_id, tick.timestamp, tick.source, tick.place)
