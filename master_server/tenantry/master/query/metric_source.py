"""metricsMaster as Arrow: what chunks and not yet compacted segments hold, decoded as whole columns.

A row is one sample. Nothing is done for each of them in Python: chunks are decoded by the dozen, values that repeat (names, labels,
Tenants) are codes into short lists, and what the query leaves out by Tenant, time or metric is not decoded at all.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, func, select

from tenantry.master.operations.metric_ticks import (
    MAX_CHUNK_SPAN_MS,
    CompactionWindow,
    LayoutCache,
    TickReader,
    Wanted,
)
from tenantry.master.query.layout_words import LABELS, LayoutWords
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import NUMBER, OWNER, TENANT_COLUMNS, TEXT, TenantWords
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import chunks as table
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.chunk_batches import decode_alike
from tenantry.master.timeseries.frames import SAMPLE_BYTES, FrameTable
from tenantry.master.timeseries.sealing import TimeseriesCorrupt
from tenantry.master.timeseries.segments import decode_segment

ROWS_A_BATCH: Final = 1 << 18
_CHUNKS_A_FETCH: Final = 256

METRIC_FIELDS: Final = (
    pa.field("timestamp", pa.int64()),
    pa.field("receivedAt", pa.int64()),
    *(pa.field(name, TEXT) for name in TENANT_COLUMNS),
    pa.field("metric", TEXT),
    pa.field("unit", TEXT),
    pa.field("kind", TEXT),
    pa.field("value", pa.float64()),
    pa.field("labels", LABELS),
    pa.field(OWNER, NUMBER),
)

_Int64s = NDArray[np.int64]
_Int32s = NDArray[np.int32]
_Float64s = NDArray[np.float64]


class _StoredChunk(NamedTuple):
    id: int
    tenant_id: int
    layout_id: int
    ticks: int
    data: bytes


@dataclass(slots=True)
class _Block:
    """Some rows: the columns that are not the same for all of them. ``series`` are codes within ``layout_id``'s list."""

    layout_id: int
    timestamps: _Int64s
    received: _Int64s | None
    tenants: _Int32s
    series: _Int32s
    values: _Float64s


@dataclass(slots=True)
class MetricSource:
    """The samples of one scan, in one transaction. `batches` may be asked for more than once: each reads anew."""

    transaction: Transaction
    scan: Scan
    tenants: TenantWords
    progress: Progress
    schema: pa.Schema = field(init=False)
    _words: LayoutWords = field(init=False)

    def __post_init__(self) -> None:
        self.schema = pa.schema([one for one in METRIC_FIELDS if one.name == OWNER or self.scan.needs(one.name)])
        self._words = LayoutWords(self.transaction, self.scan.metrics, self.scan.labels)

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """All rows."""
        blocks: list[_Block] = []
        rows = 0
        for block in self._blocks():
            blocks.append(block)
            rows += len(block.values)
            if rows >= ROWS_A_BATCH // 2:
                yield self._batch(blocks, rows)
                blocks, rows = [], 0
        if rows:
            yield self._batch(blocks, rows)

    def measure(self) -> tuple[int, int, int]:
        """How many segments and chunks have to be opened, and how many samples they hold; segments by their index alone."""
        if not len(self.tenants.numbers):
            return 0, 0, 0
        chunks, samples = self.transaction.connection.execute(
            select(func.count(), func.coalesce(func.sum(table.c.samples), 0)).where(*self._conditions())
        ).one()
        segments = 0
        for _, found in self._segment_tables():
            segments += 1
            samples += int(found.sizes.sum()) // SAMPLE_BYTES
        return segments, int(chunks), int(samples)

    # --- what is read ---------------------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[_Block]:
        if len(self.tenants.numbers):
            yield from self._from_segments()
            yield from self._from_chunks()

    def _from_chunks(self) -> Iterator[_Block]:
        connection = self.transaction.connection
        conditions = self._conditions()
        self.progress.chunks += int(
            connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()
        )
        query = select(table.c.id, table.c.tenant_id, table.c.layout_id, table.c.ticks, table.c.data).where(*conditions)
        with closing(connection.execute(query.execution_options(yield_per=_CHUNKS_A_FETCH))) as rows:
            for partition in rows.partitions(_CHUNKS_A_FETCH):
                yield from self._from_partition(partition)

    def _from_partition(self, partition: Sequence[Any]) -> Iterator[_Block]:
        """The rows of some chunks, those of one layout and length together."""
        self.progress.chunks_read += len(partition)
        alike: dict[tuple[int, int], list[_StoredChunk]] = {}
        for row in partition:
            one = _StoredChunk(*row)
            alike.setdefault((one.layout_id, one.ticks), []).append(one)
        for (layout_id, _), group in alike.items():
            wanted = self._words.wanted(layout_id)
            if len(wanted):
                yield from self._from_alike(layout_id, wanted, group)

    def _from_alike(self, layout_id: int, wanted: _Int32s, rows: Sequence[_StoredChunk]) -> Iterator[_Block]:
        """The rows of chunks of one layout and length; one by one where any of them is damaged."""
        data = [row.data for row in rows]
        self.progress.bytes_read += sum(map(len, data))
        every = len(wanted) == self._words.width(layout_id)
        step = max(1, ROWS_A_BATCH // (len(wanted) * rows[0].ticks))
        for start in range(0, len(rows), step):
            part = data[start : start + step]
            numbers = np.array([row.tenant_id for row in rows[start : start + step]], np.int64)
            chosen = None if every else wanted
            try:
                decoded = [(numbers, decode_alike(part, chosen, received=self.scan.needs("receivedAt")))]
            except TimeseriesCorrupt:
                decoded = list(self._one_by_one(rows[start : start + step], part, chosen))
            for owners, (timestamps, received, values) in decoded:
                yield from self._rows_of(layout_id, wanted, owners, timestamps, received, values)

    def _one_by_one(
        self, rows: Sequence[_StoredChunk], data: Sequence[bytes], chosen: _Int32s | None
    ) -> Iterator[tuple[_Int64s, tuple[_Int64s, _Int64s | None, _Float64s]]]:
        for row, one in zip(rows, data, strict=True):
            try:
                yield (
                    np.array([row.tenant_id], np.int64),
                    decode_alike([one], chosen, received=self.scan.needs("receivedAt")),
                )
            except TimeseriesCorrupt as error:
                self.progress.damaged.append(f"chunk {row.id}: {error}")

    def _rows_of(
        self,
        layout_id: int,
        wanted: _Int32s,
        owners: _Int64s,
        timestamps: _Int64s,
        received: _Int64s | None,
        values: _Float64s,
    ) -> Iterator[_Block]:
        """Rows of chunks alike: ``timestamps`` are [chunks, ticks], ``values`` [chunks, series, ticks]."""
        codes, known = self.tenants.codes(owners)
        shape = values.shape
        flat = values.reshape(-1)
        kept = self._within(timestamps)
        missing = np.isnan(flat)
        mask: NDArray[np.bool_] | None = None
        if missing.any():
            mask = ~missing
        if kept is not None:
            spread = np.broadcast_to(kept[:, None, :], shape).reshape(-1)
            mask = spread if mask is None else mask & spread
        if not known.all():
            seen = np.repeat(known, shape[1] * shape[2])
            mask = seen if mask is None else mask & seen
        block = _Block(
            layout_id,
            np.broadcast_to(timestamps[:, None, :], shape).reshape(-1),
            None if received is None else np.broadcast_to(received[:, None, :], shape).reshape(-1),
            np.repeat(codes, shape[1] * shape[2]),
            np.broadcast_to(wanted[None, :, None], shape).reshape(-1),
            flat,
        )
        yield block if mask is None else _chosen(block, mask)

    def _within(self, timestamps: _Int64s) -> NDArray[np.bool_] | None:
        """Which of these times are meant; None for all."""
        scan = self.scan
        low = scan.start_ms is not None and bool((timestamps < scan.start_ms).any())
        high = scan.end_ms is not None and bool((timestamps >= scan.end_ms).any())
        if not low and not high:
            return None
        kept = np.ones(timestamps.shape, np.bool_)
        if scan.start_ms is not None:
            kept &= timestamps >= scan.start_ms
        if scan.end_ms is not None:
            kept &= timestamps < scan.end_ms
        return kept

    def _conditions(self) -> list[ColumnElement[bool]]:
        """Which chunks may hold something that is meant."""
        scan, connection = self.scan, self.transaction.connection
        found: list[ColumnElement[bool]] = []
        sight = self.tenants.narrowed(scan)
        if sight.tenant_ids is not None:
            found.append(any_of(connection, table.c.tenant_id, sight.tenant_ids))
        if scan.start_ms is not None:
            found += [table.c.last_timestamp >= scan.start_ms]
            found += [table.c.first_timestamp >= scan.start_ms - MAX_CHUNK_SPAN_MS]
        if scan.end_ms is not None:
            found += [table.c.first_timestamp < scan.end_ms]
            found += [table.c.last_timestamp < scan.end_ms + MAX_CHUNK_SPAN_MS]
        return found

    # --- segments -------------------------------------------------------------------------------------------------------------

    def _segment_tables(self) -> Iterator[tuple[int, FrameTable]]:
        """The frames of each segment that may hold something that is meant, where it has any."""
        scan, sight = self.scan, self.tenants.narrowed(self.scan)
        reader = TickReader(self.transaction, Wanted(sight.tenant_ids), LayoutCache())
        window = CompactionWindow.load(self.transaction)
        for segment in reader.segments():
            if scan.start_ms is not None and segment.last_ms < scan.start_ms:
                continue
            if scan.end_ms is not None and segment.first_ms >= scan.end_ms:
                continue
            done = window.tenant_id if window is not None and window.covers(segment.received_ms) else None
            ids = sight.tenant_ids
            if done is not None and ids is not None:
                ids = frozenset(number for number in ids if number > done)
            if ids is not None and not ids:
                continue
            data = self.transaction.segments.data(segment.id)
            try:
                frames = decode_segment(data, ids)
            except TimeseriesCorrupt as error:
                self.progress.damaged.append(f"segment {segment.id}: {error}")
                continue
            if done is not None:
                frames = frames.take(np.flatnonzero(frames.tenant_ids > done))
            frames = frames.take(np.flatnonzero(self._holding(frames)))
            if len(frames):
                yield len(data), frames

    def _holding(self, frames: FrameTable) -> NDArray[np.bool_]:
        """Which frames have a wanted series, of a Tenant that is meant."""
        layouts, places = np.unique(frames.layout_ids, return_inverse=True)
        holding = np.array([len(self._words.wanted(number)) > 0 for number in layouts.tolist()], np.bool_)
        found: NDArray[np.bool_] = self.tenants.codes(frames.tenant_ids)[1]
        return found & holding[places] if len(holding) else found

    def _from_segments(self) -> Iterator[_Block]:
        for size, frames in self._segment_tables():
            self.progress.segments += 1
            self.progress.segments_read += 1
            self.progress.bytes_read += size
            order = np.argsort(frames.layout_ids, kind="stable")
            numbers = frames.layout_ids[order]
            cuts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
            for first, end in zip(cuts, [*cuts[1:], len(numbers)], strict=True):
                yield from self._from_frames(int(numbers[first]), frames.take(order[first:end]))

    def _from_frames(self, layout_id: int, frames: FrameTable) -> Iterator[_Block]:
        """Rows of frames of one layout: their ticks one after the other are a matrix of ticks and series."""
        width = self._words.width(layout_id)
        if int((frames.sizes != frames.ticks * (width * SAMPLE_BYTES)).sum()):
            self.progress.damaged.append(f"frames of layout {layout_id}: their sizes do not fit it")
            return
        wanted = self._words.wanted(layout_id)
        values = np.frombuffer(frames.values, "<f8").reshape(-1, width)
        codes = np.repeat(self.tenants.codes(frames.tenant_ids)[0], frames.ticks)
        received = np.repeat(frames.received_at, frames.ticks) if self.scan.needs("receivedAt") else None
        timestamps = frames.timestamps
        kept = self._within(timestamps)
        if kept is not None:
            places = np.flatnonzero(kept)
            values, codes, timestamps = values[places], codes[places], timestamps[places]
            received = None if received is None else received[places]
        step = max(1, ROWS_A_BATCH // len(wanted))
        for start in range(0, len(timestamps), step):
            part = slice(start, start + step)
            rows = values[part] if len(wanted) == width else values[part][:, wanted]
            ticks = len(rows)
            block = _Block(
                layout_id,
                np.repeat(timestamps[part], len(wanted)),
                None if received is None else np.repeat(received[part], len(wanted)),
                np.repeat(codes[part], len(wanted)),
                np.tile(wanted, ticks),
                np.ascontiguousarray(rows).reshape(-1),
            )
            present = ~np.isnan(block.values)
            yield block if present.all() else _chosen(block, present)

    # --- what is handed out ---------------------------------------------------------------------------------------------------

    def _batch(self, blocks: Sequence[_Block], rows: int) -> pa.RecordBatch:
        self.progress.rows_read += rows
        scan = self.scan
        columns: dict[str, Any] = {}
        if scan.needs("timestamp"):
            columns["timestamp"] = pa.array(_joined(blocks, lambda one: one.timestamps))
        if scan.needs("receivedAt"):
            columns["receivedAt"] = pa.array(_joined(blocks, lambda one: one.received))
        columns |= self.tenants.columns(_joined(blocks, lambda one: one.tenants), self.schema.names)
        if any(map(scan.needs, ("metric", "unit", "kind", "labels"))):
            columns |= self._series_columns(blocks)
        if scan.needs("value"):
            columns["value"] = pa.array(_joined(blocks, lambda one: one.values))
        return pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema)

    def _series_columns(self, blocks: Sequence[_Block]) -> dict[str, Any]:
        """Names and labels: the lists of all layouts of the batch one after the other, each at its place."""
        places: dict[int, int] = {}
        behind = 0
        codes: list[_Int32s] = []
        for block in blocks:
            if block.layout_id not in places:
                places[block.layout_id] = behind
                behind += self._words.width(block.layout_id)
            codes.append(block.series + np.int32(places[block.layout_id]))
        indices = pa.array(codes[0] if len(codes) == 1 else np.concatenate(codes))
        return {
            name: pa.DictionaryArray.from_arrays(indices, self._words.column(name, places), safe=False)
            for name in ("metric", "unit", "kind", "labels")
            if self.scan.needs(name)
        }


def _joined(blocks: Sequence[_Block], column: Callable[[_Block], Any]) -> Any:
    return column(blocks[0]) if len(blocks) == 1 else np.concatenate([column(one) for one in blocks])


def _chosen(block: _Block, mask: NDArray[np.bool_]) -> _Block:
    places = np.flatnonzero(mask)
    return _Block(
        block.layout_id,
        block.timestamps[places],
        None if block.received is None else block.received[places],
        block.tenants[places],
        block.series[places],
        block.values[places],
    )
