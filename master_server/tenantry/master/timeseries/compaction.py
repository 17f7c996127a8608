"""Compaction: frames of many segments -> chunks, one run of ticks of one Tenant and one layout each."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenantry.master.timeseries.chunks import MAX_CHUNK_SAMPLES, encode_chunk
from tenantry.master.timeseries.segments import SAMPLE_BYTES, Frame

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


def plan(frames: Iterable[Frame]) -> dict[tuple[int, int], list[Frame]]:
    """The frames of each (tenant_id, layout_id), in the order given: what ends in the same chunks."""
    groups: dict[tuple[int, int], list[Frame]] = {}
    for frame in frames:
        groups.setdefault((frame.tenant_id, frame.layout_id), []).append(frame)
    return groups


def compact(frames: Iterable[Frame], ticks_per_chunk: int = TICKS_PER_CHUNK) -> list[Chunk]:
    """Chunks that hold every tick of `frames` exactly once, each with its time of receipt.

    The ticks of each (Tenant, layout) are sorted by timestamp; equal timestamps stay in the order given. Runs are cut
    into pieces of equal length near `ticks_per_chunk`, fewer ticks where a layout is so wide that a chunk would be too
    large.

    Raises:
        ValueError: `ticks_per_chunk` below 1, values that are not whole ticks, or frames of one layout that differ in
            their number of series or have more than a chunk may hold.
    """
    if ticks_per_chunk < 1:
        raise ValueError("a chunk holds at least one tick")
    return [chunk for group in plan(frames).values() for chunk in _chunks(group, ticks_per_chunk)]


def _chunks(frames: Sequence[Frame], ticks_per_chunk: int) -> Iterable[Chunk]:
    tenant_id, layout_id = frames[0].tenant_id, frames[0].layout_id
    ticks = [len(frame.timestamps) for frame in frames]
    tick_bytes = len(frames[0].values) // max(ticks[0], 1)
    if (
        tick_bytes < SAMPLE_BYTES
        or tick_bytes % SAMPLE_BYTES
        or any(len(frame.values) != count * tick_bytes for frame, count in zip(frames, ticks, strict=True))
    ):
        raise ValueError(f"frames of layout {layout_id} (Tenant {tenant_id}) differ in their number of series")
    timestamps = np.array([at for frame in frames for at in frame.timestamps], dtype=np.int64)
    order = np.argsort(timestamps, kind="stable")
    timestamps = timestamps[order]
    received_at = np.repeat(np.array([frame.received_at for frame in frames], dtype=np.int64), ticks)[order]
    values = np.frombuffer(b"".join([frame.values for frame in frames]), dtype="<f8").reshape(len(order), -1)[order]
    series = values.shape[1]
    most = max(1, min(ticks_per_chunk * 3 // 2, MAX_CHUNK_SAMPLES // series))
    pieces = max(round(len(order) / ticks_per_chunk), -(-len(order) // most))
    cuts = [len(order) * piece // pieces for piece in range(pieces + 1)]
    for first, end in itertools.pairwise(cuts):
        received = received_at[first:end]
        yield Chunk(
            tenant_id=tenant_id,
            layout_id=layout_id,
            ticks=end - first,
            samples=(end - first) * series,
            first_timestamp=int(timestamps[first]),
            last_timestamp=int(timestamps[end - 1]),
            first_received_at=int(received.min()),
            last_received_at=int(received.max()),
            data=encode_chunk(timestamps[first:end], values[first:end], received),
        )
