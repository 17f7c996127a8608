"""Many chunks of one shape, decoded together: what `chunks.decode_chunk` does for one of them, for all at once.

A chunk is small, and most of the time of decoding it goes into some dozens of calls of numpy, whatever they have to do. Here each call
works on the rows of all chunks, so that what remains for each chunk is its checksum and its decompression.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.chunks import (
    MAX_CHUNK_SAMPLES,
    ChunkCorrupt,
    Head,
    open_chunk,
)
from tenantry.master.timeseries.decimals import SCALES, Float64s, to_values
from tenantry.master.timeseries.residuals import MAX_ORDER, MAX_SHIFT, Int64s, Model, Uint64s, restore
from tenantry.master.timeseries.sealing import Octets, TimeseriesCorrupt, inflate

_WORD: Final = 8
_ROW_BYTES: Final = 2 * _WORD + 5
_NAN: Final = np.int64(0x7FF8000000000000).view(np.float64)

_Planes = NDArray[np.uint8]
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
    residuals = _join_planes([parts[2:] for _, parts in opened], bits, rows, shape)
    model = Model(
        base.T[:, rows].reshape(-1),
        slope.T[:, rows].reshape(-1),
        order[:, rows].reshape(-1),
        shift[:, rows].reshape(-1),
    )
    integers = restore(model, residuals).reshape(len(opened), len(rows), shape.ticks)
    chosen = rows[len(timed) :]
    shown = np.ascontiguousarray(integers[:, len(timed) :]).reshape(-1, shape.ticks)
    values = to_values(scale[:, chosen].reshape(-1), shown).reshape(len(opened), len(chosen), shape.ticks)
    _leave_out([parts[1] for _, parts in opened], gappy, chosen, values)
    timestamps = np.ascontiguousarray(integers[:, 0])
    if not received:
        return timestamps, None, values
    return timestamps, np.ascontiguousarray(integers[:, len(timed) - 1]), values


def _join_planes(parts: Sequence[Sequence[memoryview]], bits: _Planes, rows: Int64s, shape: Head) -> Uint64s:
    """The residuals of ``rows`` of each chunk, one chunk after the other."""
    chunks, count = bits.shape
    ticks = shape.ticks
    widths = (bits.astype(np.int64) + 7) // 8
    ranked = np.argsort(-bits.astype(np.int64), axis=1, kind="stable")
    # How many rows of each chunk have something in plane 0, 1, ...; they are the first ones by rank.
    counts = (widths[:, :, None] > np.arange(_WORD + 1)).sum(axis=1)
    target = np.full(count, -1, np.int64)
    target[rows] = np.arange(len(rows))
    wanted = target[ranked]  # [chunks, rank]: where the row goes, -1 for nowhere
    rank = np.arange(count)
    residuals = np.zeros((chunks * len(rows), ticks), "<u8")
    octets = residuals.view(np.uint8).reshape(chunks * len(rows), ticks, _WORD)
    for place, first, end in (
        (0, np.zeros_like(counts[:, :-1]), counts[:, 1:]),
        (1, counts[:, 1:], counts[:, :-1]),
    ):
        heights = (end - first).sum(axis=1)
        stored = np.frombuffer(
            b"".join(
                [
                    inflate(one[place], height * ticks) if height or len(one[place]) else b""
                    for one, height in zip(parts, heights.tolist(), strict=True)
                ]
            ),
            np.uint8,
        ).reshape(-1, ticks)
        # Where the rows of each plane begin in `stored`.
        begins = np.cumsum(heights) - heights
        offsets = begins[:, None] + np.cumsum(end - first, axis=1) - (end - first) - first
        for plane in range(_WORD):
            held = (rank >= first[:, plane, None]) & (rank < end[:, plane, None]) & (wanted >= 0)
            if held.any():
                chunk, at = np.nonzero(held)
                octets[chunk * len(rows) + wanted[chunk, at], :, plane] = stored[offsets[chunk, plane] + at]
    return residuals.astype(np.uint64, copy=False)


def _leave_out(parts: Sequence[memoryview], gappy: _Planes, chosen: Int64s, values: Float64s) -> None:
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
