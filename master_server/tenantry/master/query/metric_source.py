"""metricsMaster as Arrow: what chunks and not yet compacted segments hold, decoded as whole columns.

A row is one sample. Nothing is done for each of them in Python: chunks are decoded by the dozen, values that repeat (names, labels,
Tenants) are codes into short lists, and what the query leaves out by Tenant, time or metric is not decoded at all.
"""

from collections.abc import Generator, Iterator, Sequence
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
from tenantry.master.query.cells import Block, Decoded, Float64s, Int32s, Int64s, joined, single
from tenantry.master.query.layout_words import LABELS, LayoutWords
from tenantry.master.query.partials import CELL_COLUMNS, CELLS
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
CELL_FIELDS: Final = (
    *(one for one in METRIC_FIELDS if one.name in CELLS.columns),
    *(pa.field(name, pa.float64()) for name in CELL_COLUMNS),
    pa.field(OWNER, NUMBER),
)


class _StoredChunk(NamedTuple):
    id: int
    tenant_id: int
    layout_id: int
    ticks: int
    data: bytes


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
        fields = METRIC_FIELDS if self.scan.grain_ms is None else CELL_FIELDS
        self.schema = pa.schema([one for one in fields if one.name == OWNER or self.scan.needs(one.name)])
        self._words = LayoutWords(self.transaction, self.scan.metrics, self.scan.labels)

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """All rows."""
        blocks: list[Block] = []
        rows = 0
        for block in self._blocks():
            blocks.append(block)
            rows += len(block)
            if rows >= ROWS_A_BATCH // 2:
                yield self._batch(blocks)
                blocks, rows = [], 0
        if rows:
            yield self._batch(blocks)

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

    def _blocks(self) -> Iterator[Block]:
        if len(self.tenants.numbers):
            yield from self._from_segments()
            yield from self._from_chunks()

    def _from_chunks(self) -> Iterator[Block]:
        connection = self.transaction.connection
        conditions = self._conditions()
        self.progress.chunks += int(
            connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()
        )
        query = select(table.c.id, table.c.tenant_id, table.c.layout_id, table.c.ticks, table.c.data).where(*conditions)
        with closing(connection.execute(query.execution_options(yield_per=_CHUNKS_A_FETCH))) as rows:
            for partition in rows.partitions(_CHUNKS_A_FETCH):
                yield from self._from_partition(partition)

    def _from_partition(self, partition: Sequence[Any]) -> Iterator[Block]:
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

    def _from_alike(self, layout_id: int, wanted: Int32s, rows: Sequence[_StoredChunk]) -> Iterator[Block]:
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
                yield self._rows_of(layout_id, wanted, owners, timestamps, received, values)

    def _one_by_one(
        self, rows: Sequence[_StoredChunk], data: Sequence[bytes], chosen: Int32s | None
    ) -> Iterator[tuple[Int64s, tuple[Int64s, Int64s | None, Float64s]]]:
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
        wanted: Int32s,
        owners: Int64s,
        timestamps: Int64s,
        received: Int64s | None,
        values: Float64s,
    ) -> Block:
        """Rows of chunks alike: ``timestamps`` are [chunks, ticks], ``values`` [chunks, series, ticks]."""
        codes, known = self.tenants.codes(owners)
        kept = self._within(timestamps)
        if not known.all():
            seen = np.broadcast_to(known[:, None], timestamps.shape)
            kept = seen if kept is None else kept & seen
        decoded = Decoded(layout_id, codes, wanted, timestamps, received, values, kept)
        if self.scan.grain_ms is None:
            return decoded.samples()
        return decoded.cells(self.scan.grain_ms, self.schema.names)

    def _within(self, timestamps: Int64s) -> NDArray[np.bool_] | None:
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

    def _from_segments(self) -> Iterator[Block]:
        for size, frames in self._segment_tables():
            self.progress.segments += 1
            self.progress.segments_read += 1
            self.progress.bytes_read += size
            order = np.argsort(frames.layout_ids, kind="stable")
            numbers = frames.layout_ids[order]
            cuts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
            for first, end in zip(cuts, [*cuts[1:], len(numbers)], strict=True):
                yield from self._from_frames(int(numbers[first]), frames.take(order[first:end]))

    def _from_frames(self, layout_id: int, frames: FrameTable) -> Iterator[Block]:
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
            found = np.ascontiguousarray(rows).reshape(-1)
            block = Block(
                layout_id,
                np.repeat(timestamps[part], len(wanted)),
                None if received is None else np.repeat(received[part], len(wanted)),
                np.repeat(codes[part], len(wanted)),
                np.tile(wanted, ticks),
                {"value": found} if self.scan.grain_ms is None else single(found, self.schema.names),
                len(found),
            )
            present = ~np.isnan(found)
            yield block if present.all() else block.chosen(present, int(np.count_nonzero(present)))

    # --- what is handed out ---------------------------------------------------------------------------------------------------

    def _batch(self, blocks: Sequence[Block]) -> pa.RecordBatch:
        self.progress.rows_read += sum(one.samples for one in blocks)
        scan = self.scan
        columns: dict[str, Any] = {}
        if scan.needs("timestamp"):
            columns["timestamp"] = pa.array(joined([one.timestamps for one in blocks]))
        if scan.needs("receivedAt"):
            columns["receivedAt"] = pa.array(joined([one.received for one in blocks if one.received is not None]))
        columns |= self.tenants.columns(joined([one.tenants for one in blocks]), self.schema.names)
        if any(map(scan.needs, ("metric", "unit", "kind", "labels"))):
            columns |= self._series_columns(blocks)
        for name in blocks[0].numbers:
            columns[name] = pa.array(joined([one.numbers[name] for one in blocks]))
        return pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema)

    def _series_columns(self, blocks: Sequence[Block]) -> dict[str, Any]:
        """Names and labels: the lists of all layouts of the batch one after the other, each at its place."""
        places: dict[int, int] = {}
        behind = 0
        codes: list[Int32s] = []
        for block in blocks:
            if block.layout_id not in places:
                places[block.layout_id] = behind
                behind += self._words.width(block.layout_id)
            codes.append(block.series + np.int32(places[block.layout_id]))
        indices = pa.array(joined(codes))
        return {
            name: pa.DictionaryArray.from_arrays(indices, self._words.column(name, places), safe=False)
            for name in ("metric", "unit", "kind", "labels")
            if self.scan.needs(name)
        }
