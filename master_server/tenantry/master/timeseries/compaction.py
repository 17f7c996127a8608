"""Compaction: frames of many segments -> chunks, one run of ticks of one Tenant and one layout each."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenantry.master.timeseries.chunks import MAX_CHUNK_SAMPLES, encode_chunk
from tenantry.master.timeseries.decimals import Float64s
from tenantry.master.timeseries.frames import SAMPLE_BYTES, FrameTable
from tenantry.master.timeseries.residuals import Int64s

TICKS_PER_CHUNK: Final = 120


@dataclass(frozen=True, slots=True)
class Chunk:
    """An encoded chunk and what is needed to find it. Times are Unix ms; `samples` counts slots, absent ones too."""

    tenant_id: int
    layout_id: int
    ticks: int
    samples: int
    first_timestamp: int
    last_timestamp: int
    first_received_at: int
    last_received_at: int
    data: bytes


def cut_chunks(
    frames: FrameTable, ticks_per_chunk: int = TICKS_PER_CHUNK, max_span_ms: int | None = None
) -> Iterator[Chunk]:
    """Chunks that hold every tick of `frames` exactly once, each with its time of receipt.

    The ticks of each (Tenant, layout) are sorted by timestamp; equal timestamps stay in the order given. Runs are cut
    into pieces of equal length near `ticks_per_chunk`, fewer ticks where a layout is so wide that a chunk would be too
    large. Where the ticks of a Tenant and layout span more than `max_span_ms`, chunks end at multiples of it.

    Raises:
        ValueError: `ticks_per_chunk` below 1, values that are not whole ticks, or frames of one layout that differ in
            their number of series or have more than a chunk may hold.
    """
    if ticks_per_chunk < 1:
        raise ValueError("a chunk holds at least one tick")
    table = frames.by_series()
    new = (np.diff(table.tenant_ids, prepend=-1) != 0) | (np.diff(table.layout_ids, prepend=-1) != 0)
    firsts = np.flatnonzero(new).tolist()
    tick_bounds = [0, *np.cumsum(table.ticks).tolist()]
    bounds = [0, *np.cumsum(table.sizes).tolist()]
    received_at = np.repeat(table.received_at, table.ticks)
    widths = _tick_bytes(table)
    for first, end in itertools.pairwise([*firsts, len(table)]):
        key = (int(table.tenant_ids[first]), int(table.layout_ids[first]))
        width = int(widths[first])
        if width < SAMPLE_BYTES or width % SAMPLE_BYTES or (widths[first:end] != width).any():
            raise ValueError(f"frames of layout {key[1]} (Tenant {key[0]}) differ in their number of series")
        ticks = slice(tick_bounds[first], tick_bounds[end])
        octets = memoryview(table.values)[bounds[first] : bounds[end]]
        values = np.frombuffer(octets, dtype="<f8").reshape(-1, width // SAMPLE_BYTES)
        yield from _chunks(key, table.timestamps[ticks], received_at[ticks], values, ticks_per_chunk, max_span_ms)


def _tick_bytes(table: FrameTable) -> Int64s:
    """Octets of each tick of the frames; 0 where they are not whole ticks."""
    width = table.sizes // np.maximum(table.ticks, 1)
    return np.where(width * table.ticks == table.sizes, width, 0)


def _chunks(
    key: tuple[int, int],
    timestamps: Int64s,
    received_at: Int64s,
    values: Float64s,
    ticks_per_chunk: int,
    max_span_ms: int | None,
) -> Iterator[Chunk]:
    """The chunks of one Tenant and layout."""
    if (np.diff(timestamps) < 0).any():
        order = np.argsort(timestamps, kind="stable")
        timestamps, received_at, values = timestamps[order], received_at[order], values[order]
    spans = [0, len(timestamps)]
    if max_span_ms is not None and timestamps[-1] - timestamps[0] > max_span_ms:
        spans[1:1] = (np.flatnonzero(np.diff(timestamps // max_span_ms)) + 1).tolist()
    most = max(1, min(ticks_per_chunk * 3 // 2, MAX_CHUNK_SAMPLES // values.shape[1]))
    for start, stop in itertools.pairwise(spans):
        count = stop - start
        pieces = max(round(count / ticks_per_chunk), -(-count // most))
        cuts = [start + count * piece // pieces for piece in range(pieces + 1)]
        for first, end in itertools.pairwise(cuts):
            received = received_at[first:end]
            yield Chunk(
                tenant_id=key[0],
                layout_id=key[1],
                ticks=end - first,
                samples=(end - first) * values.shape[1],
                first_timestamp=int(timestamps[first]),
                last_timestamp=int(timestamps[end - 1]),
                first_received_at=int(received.min()),
                last_received_at=int(received.max()),
                data=encode_chunk(timestamps[first:end], values[first:end], received),
            )
