"""Segments: the durable unit of one group commit, many frames of many Tenants under one compression.

Layout: seal (magic, CRC-32 of head and index) | head | index | blocks. The index holds one column for each field of the
frames, so that summaries and filters never touch values. The values lie in blocks of about 128 KiB, each compressed
alone and under a CRC-32 of its own, so that a filtered read opens only the blocks that it needs. In a block, bytes of equal
weight lie next to each other, and among them those of one series: what repeats does so in runs, and what is noise is passed over.
"""

import itertools
import struct
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.frames import SAMPLE_BYTES, FrameTable
from tenantry.master.timeseries.sealing import (
    MAGIC_BYTES,
    SEAL_BYTES,
    Octets,
    TimeseriesCorrupt,
    deflate,
    deflate_fast,
    inflate,
    seal,
    unseal,
)

MAX_FRAMES: Final = 1 << 16
MAX_TICKS: Final = 1 << 20
MAX_VALUE_BYTES: Final = 1 << 27

_MAGIC: Final = b"TSG\x02"
_HEAD: Final = struct.Struct("<4I")  # frames, ticks, blocks, bytes of the compressed index
_FRAME_COLUMNS: Final = 6
_BLOCK_COLUMNS: Final = 3
_BLOCK_BYTES: Final = 128 * 1024

_Int64s = NDArray[np.int64]


class SegmentCorrupt(TimeseriesCorrupt):
    """A segment is damaged, cut short, or in a version that this program does not read."""


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What a segment holds. Times are Unix ms; `samples` counts slots, so an absent value (NaN) counts as well."""

    frames: int
    ticks: int
    samples: int
    first_timestamp: int
    last_timestamp: int
    tenant_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Segment:
    """An encoded segment and its summary."""

    data: bytes
    summary: SegmentSummary


@dataclass(frozen=True, slots=True)
class _Index:
    frames: FrameTable  # without their values
    block_firsts: _Int64s  # the first frame of each block
    block_sizes: _Int64s  # compressed
    block_checksums: _Int64s


def encode_segment(frames: FrameTable) -> Segment:
    """Encode the frames of one group commit, in the order given.

    The caller has checked the frames against their layouts; what is checked again here protects the store, not a
    Tenant from its mistake.

    Raises:
        ValueError: no frames, more than `MAX_FRAMES`, `MAX_TICKS` or `MAX_VALUE_BYTES` altogether, a frame without
            ticks or values, or values that are not whole ticks of float64.
    """
    count, sizes, ticks = len(frames), frames.sizes, frames.ticks
    if not 0 < count <= MAX_FRAMES:
        raise ValueError(f"a segment holds 1 to {MAX_FRAMES} frames, not {count}")
    if ticks.min() < 1 or sizes.min() < 1 or (sizes % (ticks * SAMPLE_BYTES)).any():
        raise ValueError("each frame holds at least one tick, and the same number of float64 for each tick")
    total = int(sizes.sum())
    if len(frames.timestamps) > MAX_TICKS or total > MAX_VALUE_BYTES:
        raise ValueError(f"a segment holds at most {MAX_TICKS} ticks and {MAX_VALUE_BYTES} bytes of values")
    starts = [*_block_starts(sizes, total), (count, total)]
    values = np.frombuffer(frames.values, np.uint8)
    blocks = [
        deflate_fast(_split(values[begin:end], sizes[first:last]))
        for (first, begin), (last, end) in itertools.pairwise(starts)
    ]
    block_sizes, checksums = [*map(len, blocks)], [*map(zlib.crc32, blocks)]
    columns = (frames.tenant_ids, frames.layout_ids, frames.seqs.view(np.int64), frames.received_at, ticks, sizes)
    index = np.concatenate(
        [*columns, frames.timestamps, [first for first, _ in starts[:-1]], block_sizes, checksums]
    ).astype("<i8", copy=False)
    # Bytes of equal weight next to each other: the high ones repeat and compress to nearly nothing.
    packed = deflate(index.view(np.uint8).reshape(-1, SAMPLE_BYTES).T.tobytes())
    head = _HEAD.pack(count, len(frames.timestamps), len(blocks), len(packed))
    return Segment(b"".join((seal(_MAGIC, head + packed), *blocks)), _summary(frames))


def _block_starts(sizes: _Int64s, total: int) -> list[tuple[int, int]]:
    """The first frame of each block, and where its values begin: a frame belongs to the block in which its values begin."""
    if total <= _BLOCK_BYTES:
        return [(0, 0)]
    begins = np.cumsum(sizes) - sizes
    firsts = np.flatnonzero(np.diff(begins // _BLOCK_BYTES, prepend=-1))
    return [*zip(firsts.tolist(), begins[firsts].tolist(), strict=True)]


def _split(values: NDArray[np.uint8], sizes: _Int64s) -> bytes:
    """The bytes of a block by their weight, then by series where all of its frames are of one size."""
    return values.reshape(-1, _words(sizes), SAMPLE_BYTES).T.tobytes()


def _join(split: bytes, sizes: _Int64s) -> bytes:
    """The values of a block that `_split` has taken apart."""
    return np.frombuffer(split, np.uint8).reshape(SAMPLE_BYTES, _words(sizes), -1).T.tobytes()


def _words(sizes: _Int64s) -> int:
    """How many values the frames of a block have each; 1 where they differ, so that only bytes are told apart."""
    return int(sizes[0]) // SAMPLE_BYTES if (sizes == sizes[0]).all() else 1


def _summary(frames: FrameTable) -> SegmentSummary:
    return SegmentSummary(
        frames=len(frames),
        ticks=len(frames.timestamps),
        samples=int(frames.sizes.sum()) // SAMPLE_BYTES,
        first_timestamp=int(frames.timestamps.min()),
        last_timestamp=int(frames.timestamps.max()),
        tenant_ids=frozenset(frames.tenant_ids.tolist()),
    )


def read_summary(data: Octets) -> SegmentSummary:
    """What a segment holds, without touching its values.

    Raises:
        SegmentCorrupt: the head or the index is damaged.
    """
    try:
        return _summary(_read_index(memoryview(data))[0].frames)
    except TimeseriesCorrupt as error:
        raise SegmentCorrupt(str(error)) from error


def read_series(data: Octets) -> frozenset[tuple[int, int]]:
    """The Tenants and layouts of a segment, without touching its values.

    Raises:
        SegmentCorrupt: the head or the index is damaged.
    """
    try:
        frames = _read_index(memoryview(data))[0].frames
    except TimeseriesCorrupt as error:
        raise SegmentCorrupt(str(error)) from error
    return frozenset(zip(frames.tenant_ids.tolist(), frames.layout_ids.tolist(), strict=True))


def decode_segment(data: Octets, tenant_ids: Collection[int] | None = None) -> FrameTable:
    """The frames of a segment in the order of the commit, or only those of `tenant_ids`.

    A filtered read neither opens nor checks blocks without frames of these Tenants; a read without a filter checks
    every byte.

    Raises:
        SegmentCorrupt: what was read is damaged, or the length is wrong.
    """
    if tenant_ids is None:
        return _decode(data, lambda tenants: np.ones(len(tenants), dtype=np.bool_))
    wanted = frozenset(tenant_ids)
    return _decode(data, lambda tenants: np.array([*map(wanted.__contains__, tenants.tolist())], dtype=np.bool_))


def decode_range(data: Octets, behind: int, end: int) -> FrameTable:
    """As `decode_segment` with all Tenants for which ``behind < tenant_id <= end``."""
    return _decode(data, lambda tenants: (tenants > behind) & (tenants <= end))


def _decode(data: Octets, choose: Callable[[_Int64s], NDArray[np.bool_]]) -> FrameTable:
    try:
        return _chosen_frames(memoryview(data), choose)
    except TimeseriesCorrupt as error:
        raise SegmentCorrupt(str(error)) from error


def _chosen_frames(data: memoryview, choose: Callable[[_Int64s], NDArray[np.bool_]]) -> FrameTable:
    index, start = _read_index(data)
    frames, count = index.frames, len(index.frames)
    wanted = choose(frames.tenant_ids)
    block_ends = (start + np.cumsum(index.block_sizes)).tolist()
    opened = np.zeros(count, dtype=np.bool_)
    values: list[bytes] = []
    bounds = itertools.pairwise([*index.block_firsts.tolist(), count])
    for block, (first, last) in enumerate(bounds):
        if not wanted[first:last].any():
            continue
        packed = data[block_ends[block] - int(index.block_sizes[block]) : block_ends[block]]
        if zlib.crc32(packed) != index.block_checksums[block]:
            raise TimeseriesCorrupt("the checksum of a block does not match")
        sizes = frames.sizes[first:last]
        values.append(_join(inflate(packed, int(sizes.sum())), sizes))
        opened[first:last] = True
    return frames.choose(opened, b"".join(values)).take(np.flatnonzero(wanted[opened]))


def _read_index(data: memoryview) -> tuple[_Index, int]:
    """The index, found consistent with itself and with the length of `data`, and where the blocks start."""
    data = data.cast("B") if data.format != "B" or data.ndim != 1 else data
    if len(data) < SEAL_BYTES + _HEAD.size:
        raise TimeseriesCorrupt("too short to hold a header")
    frames, ticks, blocks, index_size = _HEAD.unpack_from(data, SEAL_BYTES)
    start = SEAL_BYTES + _HEAD.size + index_size
    if bytes(data[:MAGIC_BYTES]) == _MAGIC and start > len(data):
        raise TimeseriesCorrupt("cut short in its index")
    packed = unseal(_MAGIC, data[:start])[_HEAD.size :]
    if not (0 < frames <= MAX_FRAMES and frames <= ticks <= MAX_TICKS and 0 < blocks <= frames):
        raise TimeseriesCorrupt("the head states impossible counts")
    cells = _FRAME_COLUMNS * frames + ticks + _BLOCK_COLUMNS * blocks
    shuffled = np.frombuffer(inflate(packed, cells * SAMPLE_BYTES), dtype=np.uint8)
    columns = np.ascontiguousarray(shuffled.reshape(SAMPLE_BYTES, cells).T).view("<i8").reshape(cells)
    cuts = [frames * n for n in range(1, _FRAME_COLUMNS + 1)]
    cuts += [cuts[-1] + ticks + blocks * n for n in range(_BLOCK_COLUMNS)]
    tenant_ids, layout_ids, seqs, *others = np.split(columns.astype(np.int64, copy=False), cuts)
    received_at, counts, sizes, timestamps, firsts, block_sizes, checksums = others
    frames_read = FrameTable(tenant_ids, layout_ids, seqs.view(np.uint64), received_at, counts, sizes, timestamps, b"")
    index = _Index(frames_read, firsts, block_sizes, checksums)
    _check_index(index, len(data) - start)
    return index, start


def _check_index(index: _Index, block_bytes: int) -> None:
    sizes, ticks = index.frames.sizes, index.frames.ticks
    firsts = np.append(index.block_firsts, len(sizes))
    if (
        ticks.min() < 1
        or ticks.max() > MAX_TICKS
        or ticks.sum() != len(index.frames.timestamps)
        or sizes.min() < 1
        or sizes.max() > MAX_VALUE_BYTES
        or sizes.sum() > MAX_VALUE_BYTES
        or (sizes % (ticks * SAMPLE_BYTES)).any()
        or firsts[0] != 0
        or (firsts[1:] <= firsts[:-1]).any()
    ):
        raise TimeseriesCorrupt("the index contradicts itself")
    if index.block_sizes.min() < 1 or index.block_sizes.max() > block_bytes or index.block_sizes.sum() != block_bytes:
        raise TimeseriesCorrupt("the length differs from what the index states")
