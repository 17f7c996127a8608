"""Many chunks of one shape, decoded together: what `chunks.decode_chunk` does for one of them, for all at once.

A chunk is small, and most of the time of decoding it goes into some dozens of calls of numpy, whatever they have to do. Here each call
works on the rows of all chunks, so that what remains for each chunk is its checksum and its decompression.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.chunks import (
    MAX_CHUNK_SAMPLES,
    ChunkCorrupt,
    Head,
    open_chunk,
)
from tenantry.master.timeseries.decimals import SCALES, Float64s, to_values
from tenantry.master.timeseries.residuals import MAX_ORDER, MAX_SHIFT, Bytes, Int64s, Model, Unsigned, restore
from tenantry.master.timeseries.sealing import Octets, TimeseriesCorrupt, inflate

_WORD: Final = 8
_ROW_BYTES: Final = 2 * _WORD + 5
_NAN: Final = np.int64(0x7FF8000000000000).view(np.float64)

_Int32s = NDArray[np.int32]
Decoded = tuple[Int64s, Int64s | None, Float64s]
"""Timestamps [chunks, ticks], times of receipt (where asked for), values [chunks, series, ticks] with NaN where absent."""


def decode_alike(data: Sequence[Octets], series: _Int32s | None = None, *, received: bool = False) -> Decoded:
    """The content of chunks that have one number of ticks and of series; with ``series`` only these columns, in this order.

    Where a chunk was encoded without times of receipt, its timestamps stand for them.

    Raises:
        ChunkCorrupt: a byte of any of them is damaged, or they are not of one shape.
        IndexError: a series that they do not have.
    """
    try:
        return _decode(data, series, received=received)
    except TimeseriesCorrupt as error:
        raise ChunkCorrupt(str(error)) from error


def _decode(data: Sequence[Octets], series: _Int32s | None, *, received: bool) -> Decoded:
    opened = [open_chunk(memoryview(one)) for one in data]
    shape = opened[0][0]
    if any(head != shape for head, _ in opened):
        raise TimeseriesCorrupt("chunks that should be alike are not")
    if series is not None and len(series) and (series.min() < 0 or series.max() >= shape.series):
        raise IndexError(f"the chunks have series 0 to {shape.series - 1}")
    if len(opened) * shape.ticks * shape.series > 4 * MAX_CHUNK_SAMPLES:
        raise ValueError("too many chunks at once")
    count = shape.times + shape.series
    raw = b"".join([inflate(parts[0], count * _ROW_BYTES) for _, parts in opened])
    described = np.frombuffer(raw, np.uint8).reshape(len(opened), count * _ROW_BYTES)
    words = described[:, : 2 * count * _WORD].reshape(len(opened), _WORD, 2 * count)
    base, slope = np.ascontiguousarray(words.transpose(2, 0, 1)).view("<i8").reshape(2, count, len(opened))
    order, shift, bits, scale, gappy = np.ascontiguousarray(
        described[:, 2 * count * _WORD :].reshape(-1, 5, count).transpose(1, 0, 2)
    )
    if (
        order.max() > MAX_ORDER
        or shift.max() > MAX_SHIFT
        or bits.max() > 8 * _WORD
        or scale.max() >= SCALES
        or gappy.max() > 1
        or scale[:, : shape.times].any()
        or gappy[:, : shape.times].any()
    ):
        raise TimeseriesCorrupt("a row is described in an unknown way")
    timed = [0, 1] if received and shape.times == 2 else [0]
    places = np.arange(shape.series) if series is None else series
    rows = np.concatenate((np.array(timed, np.int64), places.astype(np.int64) + shape.times))
    planes = _Planes.read([parts[2:] for _, parts in opened], bits, shape)
    times = np.empty((len(opened), len(timed), shape.ticks), np.int64)
    values = np.empty((len(opened), len(places), shape.ticks))
    for group in _groups(order, shift, planes.widths, scale, rows, len(timed)):
        chunks, row = group.chunks, rows[group.columns]
        model = Model(base[row, chunks], slope[row, chunks], order[chunks, row], shift[chunks, row])
        integers = restore(model, planes.residuals(chunks, row))
        if group.timed:
            times[chunks, group.columns] = integers
        else:
            values[chunks, group.columns - len(timed)] = to_values(scale[chunks, row], integers)
    _leave_out([parts[1] for _, parts in opened], gappy, rows[len(timed) :], values)
    if not received:
        return times[:, 0], None, values
    return times[:, 0], times[:, -1], values


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that are restored alike: by one order, from one number of planes, to one scale."""

    chunks: Int64s
    columns: Int64s
    timed: bool


def _groups(order: Bytes, shift: Bytes, widths: Int64s, scale: Bytes, rows: Int64s, timed: int) -> Iterator[_Group]:
    """All of ``rows`` of all chunks, of which the first ``timed`` are times."""
    kinds = ((order.astype(np.int64) * (_WORD + 1) + widths) * 2 + (shift > 0)) * SCALES + scale
    kinds = kinds[:, rows]
    kinds[:, :timed] = -1 - kinds[:, :timed]
    flat = kinds.reshape(-1)
    ranked = np.argsort(flat, kind="stable")
    for places in np.split(ranked, np.flatnonzero(np.diff(flat[ranked])) + 1):
        yield _Group(places // len(rows), places % len(rows), bool(flat[places[0]] < 0))


@dataclass(frozen=True, slots=True)
class _Planes:
    """The residuals of chunks by byte weight, as they are stored: rows by falling bit length, low planes apart from the highest."""

    widths: Int64s
    """How many planes each row has, [chunks, rows]."""
    rank: Int64s
    """At which place a row stands in the planes of its chunk."""
    low: Bytes
    high: Bytes
    low_offsets: Int64s
    """What to add to a row's rank to find it, [chunks, planes]."""
    high_offsets: Int64s

    @classmethod
    def read(cls, parts: Sequence[Sequence[memoryview]], bits: Bytes, shape: Head) -> Self:
        """``parts``: the compressed low and high planes of each chunk."""
        widths = (bits.astype(np.int64) + 7) // 8
        ranked = np.argsort(-bits.astype(np.int64), axis=1, kind="stable")
        rank = np.empty_like(ranked)
        np.put_along_axis(rank, ranked, np.arange(bits.shape[1])[None, :], axis=1)
        # How many rows of each chunk have something in plane 0, 1, ...; they are the first ones by rank.
        counts = (widths[:, :, None] > np.arange(_WORD + 1)).sum(axis=1)
        lows, highs = counts[:, 1:], counts[:, :-1] - counts[:, 1:]
        low, low_offsets = _stored([one[0] for one in parts], lows, shape.ticks)
        high, high_offsets = _stored([one[1] for one in parts], highs, shape.ticks)
        return cls(widths, rank, low, high, low_offsets, high_offsets - counts[:, 1:])

    def residuals(self, chunks: Int64s, rows: Int64s) -> Unsigned:
        """Those of some rows that have the same number of planes, in the narrowest type."""
        width = int(self.widths[chunks[0], rows[0]])
        if not width:
            return np.zeros((len(rows), self.low.shape[1]), np.uint8)
        kind = np.dtype(f"u{next(size for size in (1, 2, 4, 8) if size >= width)}")
        rank = self.rank[chunks, rows]
        joined: Unsigned = self.high[self.high_offsets[chunks, width - 1] + rank].astype(kind, copy=False)
        for plane in range(width - 2, -1, -1):
            joined <<= kind.type(8)
            joined |= self.low[self.low_offsets[chunks, plane] + rank]
        return joined


def _stored(parts: Sequence[memoryview], heights: Int64s, ticks: int) -> tuple[Bytes, Int64s]:
    """The planes of all chunks, one row after the other, and where each plane of each chunk begins."""
    totals = heights.sum(axis=1)
    raw = b"".join(
        [
            inflate(part, height * ticks) if height or len(part) else b""
            for part, height in zip(parts, totals.tolist(), strict=True)
        ]
    )
    begins = np.cumsum(totals) - totals
    return np.frombuffer(raw, np.uint8).reshape(-1, ticks), begins[:, None] + np.cumsum(heights, axis=1) - heights


def _leave_out(parts: Sequence[memoryview], gappy: Bytes, chosen: Int64s, values: Float64s) -> None:
    """Put NaN where values are absent."""
    affected: NDArray[np.bool_] = np.any(gappy, axis=1)
    stride = (values.shape[2] + 7) // 8
    for chunk, part in enumerate(parts):
        if not affected[chunk] and not len(part):
            continue
        lines = gappy[chunk].astype(np.int64)
        masks = np.frombuffer(inflate(part, int(lines.sum()) * stride), np.uint8).reshape(-1, stride)
        places = np.flatnonzero(lines[chosen])
        if len(places):
            absent = np.unpackbits(masks[(np.cumsum(lines) - 1)[chosen[places]]], axis=1, count=values.shape[2])
            values[chunk, places] = np.where(absent.view(np.bool_), _NAN, values[chunk, places])
