"""Segments: the durable unit of one group commit, many frames of many Tenants under one compression.

Layout: seal (magic, CRC-32 of head and index) | head | index | blocks. The index holds one column for each field of the
frames, so that summaries and filters never touch values. The values lie in blocks of about 128 KiB, each compressed
alone and under a CRC-32 of its own, so that a filtered read opens only the blocks that it needs.
"""

import itertools
import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.sealing import (
    MAGIC_BYTES,
    SEAL_BYTES,
    Octets,
    TimeseriesCorrupt,
    deflate,
    inflate,
    seal,
    unseal,
)

MAX_FRAMES: Final = 1 << 16
MAX_TICKS: Final = 1 << 20
MAX_VALUE_BYTES: Final = 1 << 27
SAMPLE_BYTES: Final = 8

_MAGIC: Final = b"TSG\x01"
_HEAD: Final = struct.Struct("<4I")  # frames, ticks, blocks, bytes of the compressed index
_FRAME_COLUMNS: Final = 6
_BLOCK_COLUMNS: Final = 3
_BLOCK_BYTES: Final = 128 * 1024

_Int64s = NDArray[np.int64]


class SegmentCorrupt(TimeseriesCorrupt):
    """A segment is damaged, cut short, or in a version that this program does not read."""


class Frame(NamedTuple):
    """What one Tenant sent in one record.

    A named tuple and no dataclass: the writer turns thousands of them into columns for each commit, which `zip` does
    in C. `timestamps` has one Unix ms for each tick; `values` are ticks x series little-endian float64, tick by tick,
    NaN where absent. `received_at` is Unix ms; `layout_id` is the Master's own number of a layout.
    """

    tenant_id: int
    layout_id: int
    seq: int
    received_at: int
    timestamps: Sequence[int]
    values: Octets


class FrameColumns(NamedTuple):
    """Frames of one layout with one tick each, side by side: what thousands of Tenants send in one commit.

    `values` are the frames' values one after the other, all of the same size.
    """

    layout_id: int
    received_at: int
    tenant_ids: Sequence[int]
    seqs: Sequence[int]
    timestamps: Sequence[int]
    values: bytes


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
    tenant_ids: _Int64s
    layout_ids: _Int64s
    seqs: NDArray[np.uint64]
    received_at: _Int64s
    ticks: _Int64s  # of each frame
    sizes: _Int64s  # bytes of values of each frame
    timestamps: _Int64s
    block_firsts: _Int64s  # the first frame of each block
    block_sizes: _Int64s  # compressed
    block_checksums: _Int64s

    def summary(self) -> SegmentSummary:
        return SegmentSummary(
            frames=len(self.tenant_ids),
            ticks=len(self.timestamps),
            samples=int(self.sizes.sum()) // SAMPLE_BYTES,
            first_timestamp=int(self.timestamps.min()),
            last_timestamp=int(self.timestamps.max()),
            tenant_ids=frozenset(self.tenant_ids.tolist()),
        )


def encode_segment(frames: Sequence[Frame], columns: Sequence[FrameColumns] = ()) -> Segment:
    """Encode what one group commit brings, in the order given: `frames`, then `columns`.

    The caller has checked the frames against their layouts; what is checked again here protects the store, not a
    Tenant from its mistake.

    Raises:
        ValueError: no frames, more than `MAX_FRAMES`, `MAX_TICKS` or `MAX_VALUE_BYTES` altogether, a frame without
            ticks or values, a number out of 64 bits, or values that are not whole ticks of float64.
    """
    parts = [_of_columns(one) for one in columns]
    if frames:
        parts.insert(0, _of_frames(frames))
    count = sum(len(part.sizes) for part in parts)
    if not 0 < count <= MAX_FRAMES:
        raise ValueError(f"a segment holds 1 to {MAX_FRAMES} frames, not {count}")
    fields = [*zip(*(part.fields for part in parts), strict=True)]
    tenant_ids, _, _, _, ticks, sizes, timestamps = (np.concatenate(field) for field in fields)
    if ticks.min() < 1 or sizes.min() < 1 or (sizes % (ticks * SAMPLE_BYTES)).any():
        raise ValueError("each frame holds at least one tick, and the same number of float64 for each tick")
    total = int(sizes.sum())
    if len(timestamps) > MAX_TICKS or total > MAX_VALUE_BYTES:
        raise ValueError(f"a segment holds at most {MAX_TICKS} ticks and {MAX_VALUE_BYTES} bytes of values")
    raw = memoryview(b"".join([part.values for part in parts]))
    if len(raw) != total:
        raise ValueError("values are bytes, or a memoryview of bytes")
    begins = np.cumsum(sizes) - sizes
    # A frame belongs to the block in which its values begin.
    firsts = np.flatnonzero(np.diff(begins // _BLOCK_BYTES, prepend=-1))
    bounds = itertools.pairwise([*begins[firsts].tolist(), total])
    blocks = [deflate(raw[begin:end]) for begin, end in bounds]
    index = np.concatenate(
        [*itertools.chain(*fields), firsts, [len(block) for block in blocks], [zlib.crc32(block) for block in blocks]]
    ).astype("<i8", copy=False)
    # Bytes of equal weight next to each other: the high ones repeat and compress to nearly nothing.
    packed = deflate(index.view(np.uint8).reshape(-1, SAMPLE_BYTES).T.tobytes())
    head = _HEAD.pack(count, len(timestamps), len(blocks), len(packed))
    summary = SegmentSummary(
        frames=count,
        ticks=len(timestamps),
        samples=total // SAMPLE_BYTES,
        first_timestamp=int(timestamps.min()),
        last_timestamp=int(timestamps.max()),
        tenant_ids=frozenset(tenant_ids.tolist()),
    )
    return Segment(b"".join((seal(_MAGIC, head + packed), *blocks)), summary)


class _Part(NamedTuple):
    """Some frames on their way into a segment: the fields of the index, in its order, and the values."""

    fields: tuple[_Int64s, ...]
    values: bytes

    @property
    def sizes(self) -> _Int64s:
        return self.fields[5]


def _of_frames(frames: Sequence[Frame]) -> _Part:
    tenant_ids, layout_ids, seqs, received_at, stamps, values = zip(*frames, strict=True)
    timestamps = [*itertools.chain.from_iterable(stamps)]
    try:
        fields = (tenant_ids, layout_ids, received_at, [*map(len, stamps)], [*map(len, values)], timestamps)
        tenants, layouts, received, ticks, sizes, times = (np.array(field, dtype=np.int64) for field in fields)
        numbers = np.array(seqs, dtype=np.uint64).view(np.int64)
    except OverflowError as error:
        raise ValueError(f"a number of a frame does not fit in 64 bits: {error}") from error
    return _Part((tenants, layouts, numbers, received, ticks, sizes, times), b"".join(values))


def _of_columns(columns: FrameColumns) -> _Part:
    count = len(columns.tenant_ids)
    if not count or len(columns.values) % count:
        raise ValueError("columns hold at least one frame, and values of one size")
    try:
        tenants, times = (np.array(field, dtype=np.int64) for field in (columns.tenant_ids, columns.timestamps))
        numbers = np.array(columns.seqs, dtype=np.uint64).view(np.int64)
        same = (columns.layout_id, columns.received_at, 1, len(columns.values) // count)
        layouts, received, ticks, sizes = (np.full(count, number, dtype=np.int64) for number in same)
    except OverflowError as error:
        raise ValueError(f"a number of a frame does not fit in 64 bits: {error}") from error
    if not len(tenants) == len(times) == len(numbers):
        raise ValueError("columns of different lengths")
    return _Part((tenants, layouts, numbers, received, ticks, sizes, times), columns.values)


def read_summary(data: Octets) -> SegmentSummary:
    """What a segment holds, without touching its values.

    Raises:
        SegmentCorrupt: the head or the index is damaged.
    """
    try:
        return _read_index(memoryview(data))[0].summary()
    except TimeseriesCorrupt as error:
        raise SegmentCorrupt(str(error)) from error


def decode_segment(data: Octets, tenant_ids: Collection[int] | None = None) -> list[Frame]:
    """The frames of a segment in the order of the commit, or only those of `tenant_ids`.

    A filtered read neither opens nor checks blocks without frames of these Tenants; a read without a filter checks
    every byte.

    Raises:
        SegmentCorrupt: what was read is damaged, or the length is wrong.
    """
    try:
        return _decode(memoryview(data), tenant_ids)
    except TimeseriesCorrupt as error:
        raise SegmentCorrupt(str(error)) from error


def _decode(data: memoryview, tenant_ids: Collection[int] | None) -> list[Frame]:
    index, start = _read_index(data)
    if tenant_ids is None:
        wanted = np.ones(len(index.tenant_ids), dtype=np.bool_)
    else:
        wanted = np.array([*map(frozenset(tenant_ids).__contains__, index.tenant_ids.tolist())], dtype=np.bool_)
    ends = np.cumsum(index.sizes)
    block_ends = (start + np.cumsum(index.block_sizes)).tolist()
    tick_ends = np.cumsum(index.ticks)
    frames: list[Frame] = []
    bounds = itertools.pairwise([*index.block_firsts.tolist(), len(wanted)])
    for block, (first, last) in enumerate(bounds):
        chosen = np.flatnonzero(wanted[first:last]) + first
        if not len(chosen):
            continue
        packed = data[block_ends[block] - int(index.block_sizes[block]) : block_ends[block]]
        if zlib.crc32(packed) != index.block_checksums[block]:
            raise TimeseriesCorrupt("the checksum of a block does not match")
        origin = int(ends[first] - index.sizes[first])
        raw = inflate(packed, int(ends[last - 1]) - origin)
        frames += [
            Frame(tenant_id, layout_id, seq, received_at, tuple(index.timestamps[a:b].tolist()), raw[c:d])
            for tenant_id, layout_id, seq, received_at, a, b, c, d in zip(
                index.tenant_ids[chosen].tolist(),
                index.layout_ids[chosen].tolist(),
                index.seqs[chosen].tolist(),
                index.received_at[chosen].tolist(),
                (tick_ends - index.ticks)[chosen].tolist(),
                tick_ends[chosen].tolist(),
                (ends - index.sizes - origin)[chosen].tolist(),
                (ends - origin)[chosen].tolist(),
                strict=True,
            )
        ]
    return frames


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
    index = _Index(tenant_ids, layout_ids, seqs.view(np.uint64), *others)
    _check_index(index, len(data) - start)
    return index, start


def _check_index(index: _Index, block_bytes: int) -> None:
    sizes, ticks = index.sizes, index.ticks
    firsts = np.append(index.block_firsts, len(sizes))
    if (
        ticks.min() < 1
        or ticks.max() > MAX_TICKS
        or ticks.sum() != len(index.timestamps)
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
