"""What of the metrics was stored behind a place, as columns: by layout, in the order of storing."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.master.operations.metric_arrivals import FIRST_WIDTH_MS, look_behind, stored_between, within
from tenantry.master.operations.metric_ticks import Arrival, LayoutCache, TickReader, Wanted
from tenantry.master.sql.chunks import StoredChunk
from tenantry.master.sql.segments import SegmentRow
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import SAMPLE_BYTES

_FLOAT64: Final = "<f8"


class LayoutTicks(NamedTuple):
    """Ticks of one layout: a row for each, in ``values`` those of the wanted series (NaN where absent). Times are Unix ms."""

    layout_id: int
    tenant_ids: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    received_at: NDArray[np.int64]
    values: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64] | slice) -> "LayoutTicks":
        """These rows, in this order."""
        return LayoutTicks(
            self.layout_id, self.tenant_ids[rows], self.timestamps[rows], self.received_at[rows], self.values[rows]
        )


class TickStep(NamedTuple):
    """Ticks by layout, in the order of storing; the place behind them, and whether there is more to read at once."""

    ticks: list[LayoutTicks]
    until: Arrival
    more: bool


class ColumnTail:
    """One follower's way through the metrics, whole commits at a time.

    A place within a commit, which others may have given, is taken for the one before that commit.
    """

    def __init__(self, metrics: frozenset[str], after: Arrival, layouts: LayoutCache) -> None:
        self._wanted = Wanted(None, metrics)
        self._after = after
        self._layouts = layouts
        self._width_ms = FIRST_WIDTH_MS
        self._columns: dict[int, NDArray[np.int64]] = {}

    def advance(self, transaction: Transaction) -> TickStep:
        """The next ticks, perhaps none. If it raises, the next call begins anew."""
        reader = TickReader(transaction, self._wanted, self._layouts, known_columns=self._columns)
        found: dict[int, list[tuple[LayoutTicks, NDArray[np.int64]]]] = {}

        def look(first_ms: int, last_ms: int) -> int:
            samples = 0
            for stored in stored_between(reader, first_ms, last_ms):
                for ticks, sources in _ticks(reader, stored, first_ms, last_ms):
                    found.setdefault(ticks.layout_id, []).append((ticks, sources))
                    samples += ticks.values.size
            return samples

        seen = look_behind(transaction, self._after, self._width_ms, look)
        self._after, self._width_ms = seen.until, seen.width_ms
        return TickStep([_ordered(parts) for parts in found.values()], seen.until, seen.more)


def _ticks(
    reader: TickReader, stored: SegmentRow | StoredChunk, first_ms: int, last_ms: int
) -> Iterator[tuple[LayoutTicks, NDArray[np.int64]]]:
    """Wanted ticks that were received in time, in the order of what stores them, with a number of that."""
    if isinstance(stored, StoredChunk):
        rows = reader.rows_of(stored, within(first_ms, last_ms))
        if rows is not None:
            tenants = np.full(len(rows.places), stored.tenant_id)
            chunk = np.full(len(rows.places), stored.id)
            yield LayoutTicks(stored.layout_id, tenants, rows.timestamps, rows.received_at, rows.values), chunk
        return
    frames = reader.frames_of(stored)
    if frames is None:
        return
    inside = (frames.received_at >= first_ms) & (frames.received_at <= last_ms)
    by_layout: dict[int, list[int]] = {}
    for place, layout_id in zip(np.flatnonzero(inside).tolist(), frames.layout_ids[inside].tolist(), strict=True):
        by_layout.setdefault(layout_id, []).append(place)
    ends = np.cumsum(frames.ticks)
    value_ends = np.cumsum(frames.sizes) // SAMPLE_BYTES
    floats = np.frombuffer(frames.values, _FLOAT64)
    for layout_id, places in by_layout.items():
        columns = reader.columns(layout_id)
        if not len(columns):
            continue
        first, last = places[0], places[-1]
        if last - first + 1 == len(places):
            # Neighbours, or one alone: nothing has to be put together.
            own, start = slice(first, last + 1), int(ends[first] - frames.ticks[first])
            stamps = frames.timestamps[start : int(ends[last])]
            values = floats[int(value_ends[first] - frames.sizes[first] // SAMPLE_BYTES) : int(value_ends[last])]
            ticks, tenants, received = frames.ticks[own], frames.tenant_ids[own], frames.received_at[own]
        else:
            apart = frames.take(np.array(places))
            stamps, values = apart.timestamps, np.frombuffer(apart.values, _FLOAT64)
            ticks, tenants, received = apart.ticks, apart.tenant_ids, apart.received_at
        sources = np.array(places)
        if len(stamps) > len(places):
            tenants, received, sources = (np.repeat(one, ticks) for one in (tenants, received, sources))
        matrix = values.reshape(len(stamps), -1)
        wanted = matrix if len(columns) == matrix.shape[1] else matrix[:, columns]
        yield LayoutTicks(layout_id, tenants, stamps, received, wanted), sources


def _ordered(parts: list[tuple[LayoutTicks, NDArray[np.int64]]]) -> LayoutTicks:
    ticks, sources = parts[0]
    if len(parts) > 1:
        sources = np.concatenate([own for _, own in parts])
        ticks = LayoutTicks(
            ticks.layout_id,
            np.concatenate([part.tenant_ids for part, _ in parts]),
            np.concatenate([part.timestamps for part, _ in parts]),
            np.concatenate([part.received_at for part, _ in parts]),
            np.concatenate([part.values for part, _ in parts]),
        )
    if len(sources) == 1:
        return ticks
    # Ticks of one source are in its order already, and the order of equal ones is kept.
    return ticks.take(np.lexsort((sources, ticks.timestamps, ticks.tenant_ids, ticks.received_at)))
