"""Chunks: what compaction makes of one Tenant's frames of one layout, about 120 ticks x series, without loss.

Layout: seal (magic, CRC-32 of all that follows) | head | columns of the rows | absences | low planes | high planes.
A chunk is a matrix of int64 rows: the timestamps, if kept the times of receipt, and one row for each series (decimals
as integers, see `decimals`). What remains after prediction (see `residuals`) is stored by byte weight, rows sorted by
how many bytes they need; rows that were predicted exactly cost nothing but their model.
"""

import itertools
import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.decimals import SCALES, Float64s, to_integers, to_values
from tenantry.master.timeseries.residuals import MAX_ORDER, MAX_SHIFT, Bytes, Int64s, Model, Uint64s, predict, restore
from tenantry.master.timeseries.sealing import Octets, TimeseriesCorrupt, deflate, inflate, seal, unseal

MAX_CHUNK_SAMPLES: Final = 1 << 22

_MAGIC: Final = b"TCH\x01"
_HEAD: Final = struct.Struct("<2IB4I")  # ticks, series, time rows, then the compressed bytes of each part but the last
_WORD: Final = 8
_ROW_BYTES: Final = 2 * _WORD + 5
_NAN_BITS: Final = np.int64(0x7FF8000000000000)


class ChunkCorrupt(TimeseriesCorrupt):
    """A chunk is damaged, cut short, or in a version that this program does not read."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of each row besides its residuals; the rows of times come first."""

    model: Model
    bits: Bytes  # of the largest residual
    scale: Bytes
    gappy: Bytes  # 1 if values are absent

    def pack(self) -> bytes:
        words = np.concatenate((self.model.base, self.model.slope)).astype("<i8", copy=False)
        small = (self.model.order, self.model.shift, self.bits, self.scale, self.gappy)
        return deflate(words.view(np.uint8).reshape(-1, _WORD).T.tobytes() + b"".join([c.tobytes() for c in small]))

    def take(self, rows: Int64s) -> "_Rows":
        return _Rows(self.model.take(rows), self.bits[rows], self.scale[rows], self.gappy[rows])


def encode_chunk(timestamps: Int64s, values: Float64s, received_at: Int64s | None = None) -> bytes:
    """Encode ticks in the order given; times are Unix ms, `values` is [ticks, series], NaN where absent.

    Every float64 comes back with the same bits, but for NaN: all NaN payloads come back as the one quiet NaN.

    Raises:
        ValueError: shapes that do not fit together, no ticks or series, or more than `MAX_CHUNK_SAMPLES` values.
    """
    times = [timestamps] if received_at is None else [timestamps, received_at]
    if values.ndim != 2 or any(time.shape != values.shape[:1] for time in times):
        raise ValueError("a chunk needs one timestamp (and time of receipt) for each row of values")
    if not 0 < values.size <= MAX_CHUNK_SAMPLES:
        raise ValueError(f"a chunk holds 1 to {MAX_CHUNK_SAMPLES} values, not {values.size}")
    series = np.array(values.T, dtype=np.float64, order="C")
    absent = np.isnan(series)
    gappy = absent.any(axis=1)
    if gappy.any():
        series[gappy] = _bridged(series[gappy], absent[gappy])
    scales, integers = to_integers(series)
    model, residuals = predict(np.concatenate((np.array(times, dtype=np.int64), integers)))
    known = np.zeros(len(times), dtype=np.uint8)
    rows = _Rows(
        model=model,
        bits=_bit_lengths(residuals.max(axis=1)),
        scale=np.concatenate((known, scales)),
        gappy=np.concatenate((known, gappy.astype(np.uint8))),
    )
    low, high = _split_planes(residuals, rows.bits)
    absences = np.packbits(absent[gappy], axis=1).tobytes()
    parts = [rows.pack(), *(deflate(part) if part else b"" for part in (absences, low, high))]
    head = _HEAD.pack(len(timestamps), len(series), len(times), *map(len, parts))
    return seal(_MAGIC, b"".join((head, *parts)))


def decode_chunk(data: Octets, series: Sequence[int] | None = None) -> tuple[Int64s, Float64s]:
    """Timestamps [ticks] and values [ticks, series]; with `series`, only these columns in the order given.

    A subset costs the decompression of the chunk and the arithmetic of the chosen columns only.

    Raises:
        ChunkCorrupt: any byte is damaged.
        IndexError: a series that the chunk does not have.
    """
    try:
        return _Chunk(memoryview(data)).read(series)
    except TimeseriesCorrupt as error:
        raise ChunkCorrupt(str(error)) from error


def decode_received_at(data: Octets) -> Int64s | None:
    """The times of receipt [ticks] in Unix ms, or None if the chunk was encoded without.

    Raises:
        ChunkCorrupt: any byte is damaged.
    """
    try:
        chunk = _Chunk(memoryview(data))
        return chunk.integers(np.array([1]))[0] if chunk.times == 2 else None
    except TimeseriesCorrupt as error:
        raise ChunkCorrupt(str(error)) from error


class Head(NamedTuple):
    """The shape of a chunk; ``times`` is 2 where it holds times of receipt beside the timestamps, else 1."""

    ticks: int
    series: int
    times: int


def open_chunk(data: memoryview) -> tuple[Head, list[memoryview]]:
    """The shape of a chunk and its compressed parts: rows, absences, low planes, high planes.

    Raises:
        TimeseriesCorrupt: any byte is damaged.
    """
    body = unseal(_MAGIC, data)
    if len(body) < _HEAD.size:
        raise TimeseriesCorrupt("too short to hold a head")
    ticks, series, times, *sizes = _HEAD.unpack_from(body)
    if not (0 < ticks * series <= MAX_CHUNK_SAMPLES and 1 <= times <= 2):
        raise TimeseriesCorrupt("the head states an impossible shape")
    if _HEAD.size + sum(sizes) != len(body):
        raise TimeseriesCorrupt("the length differs from what the head states")
    ends = [*itertools.accumulate(sizes, initial=_HEAD.size)]
    return Head(ticks, series, times), [body[first:end] for first, end in itertools.pairwise(ends)]


class _Chunk:
    """A chunk whose head and rows have been read and found consistent."""

    def __init__(self, data: memoryview) -> None:
        (self.ticks, self.series, self.times), (packed, *self._parts) = open_chunk(data)
        self._rows = self._read_rows(packed)

    def _read_rows(self, packed: memoryview) -> _Rows:
        count = self.times + self.series
        raw = np.frombuffer(inflate(packed, count * _ROW_BYTES), dtype=np.uint8)
        words, small = raw[: 2 * count * _WORD], raw[2 * count * _WORD :].reshape(-1, count)
        base, slope = np.ascontiguousarray(words.reshape(_WORD, -1).T).view("<i8").reshape(2, count)
        order, shift, bits, scale, gappy = small
        if (
            order.max() > MAX_ORDER
            or shift.max() > MAX_SHIFT
            or bits.max() > 8 * _WORD
            or scale.max() >= SCALES
            or gappy.max() > 1
            or scale[: self.times].any()
            or gappy[: self.times].any()
        ):
            raise TimeseriesCorrupt("a row is described in an unknown way")
        model = Model(base.astype(np.int64, copy=False), slope.astype(np.int64, copy=False), order, shift)
        return _Rows(model, bits, scale, gappy)

    def integers(self, rows: Int64s) -> Int64s:
        """These rows as integers, in this order."""
        low, high = self._parts[1:]
        return restore(self._rows.model.take(rows), _join_planes(low, high, self._rows.bits, rows, self.ticks))

    def read(self, series: Sequence[int] | None) -> tuple[Int64s, Float64s]:
        """Timestamps and the values of the chosen series."""
        chosen = np.arange(self.series) if series is None else np.array(series, dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= self.series):
            raise IndexError(f"the chunk has series 0 to {self.series - 1}")
        rows = np.concatenate(([0], chosen + self.times))
        integers = self.integers(rows)
        values = to_values(self._rows.scale[rows[1:]], integers[1:])
        absent = self._absent(rows[1:])
        if absent is not None:
            values[absent] = _NAN_BITS.view(np.float64)
        return integers[0], values.T

    def _absent(self, rows: Int64s) -> NDArray[np.bool_] | None:
        """Where values of these rows are absent; None if nowhere."""
        gappy = self._rows.gappy
        stride = (self.ticks + 7) // 8
        size = int(gappy.sum()) * stride
        if not size and not len(self._parts[0]):
            return None
        masks = np.frombuffer(inflate(self._parts[0], size), dtype=np.uint8).reshape(-1, stride)
        absent = np.zeros((len(rows), self.ticks), dtype=np.bool_)
        affected = np.flatnonzero(gappy[rows])
        places = (np.cumsum(gappy) - 1)[rows[affected]]
        absent[affected] = np.unpackbits(masks[places], axis=1, count=self.ticks)
        return absent


def _bridged(series: Float64s, absent: NDArray[np.bool_]) -> Float64s:
    """The rows with each absent value replaced by the one before it, so that gaps cost no residuals."""
    at = np.where(absent, 0, np.arange(series.shape[1]))
    np.maximum.accumulate(at, axis=1, out=at)
    first = np.argmin(absent, axis=1)
    at = np.maximum(at, first[:, None])
    bridged = np.take_along_axis(series, at, axis=1)
    bridged[absent.all(axis=1)] = 0
    return bridged


def _bit_lengths(peaks: Uint64s) -> Bytes:
    powers = np.uint64(1) << np.arange(8 * _WORD, dtype=np.uint64)
    return np.searchsorted(powers, peaks, side="right").astype(np.uint8)


def _plane_slices(bits: Bytes) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """For rows sorted by falling bit length: (plane, first row, end) of the low parts and of the high parts.

    The high part of a row is its top byte, which is skewed and compresses well; the bytes below are nearly noise. Apart
    from each other they get entropy codes of their own.
    """
    widths = np.bincount((bits + 7) // 8, minlength=_WORD + 1)
    counts = [*np.cumsum(widths[:0:-1])[::-1].tolist(), 0]  # the rows that have something in plane 0, 1, ...
    low = [(plane, 0, counts[plane + 1]) for plane in range(_WORD) if counts[plane + 1]]
    high = [(plane, counts[plane + 1], counts[plane]) for plane in range(_WORD) if counts[plane] > counts[plane + 1]]
    return low, high


def _split_planes(residuals: Uint64s, bits: Bytes) -> tuple[bytes, bytes]:
    ranked = np.argsort(-bits.astype(np.int64), kind="stable")
    planes = residuals[ranked].astype("<u8", copy=False).view(np.uint8).reshape(*residuals.shape, _WORD)
    low, high = _plane_slices(bits)
    return (
        b"".join([planes[first:end, :, plane].tobytes() for plane, first, end in low]),
        b"".join([planes[first:end, :, plane].tobytes() for plane, first, end in high]),
    )


def _join_planes(low: memoryview, high: memoryview, bits: Bytes, rows: Int64s, ticks: int) -> Uint64s:
    """The residuals of `rows`, in this order."""
    ranked = np.argsort(-bits.astype(np.int64), kind="stable")
    rank = np.empty_like(ranked)
    rank[ranked] = np.arange(len(ranked))
    ranks = rank[rows]
    sequence = np.argsort(ranks, kind="stable")
    sorted_ranks = ranks[sequence]
    bounds = sorted_ranks.tolist()
    every = bounds == [*range(len(bits))]
    residuals = np.zeros((len(rows), ticks), dtype="<u8")
    planes = residuals.view(np.uint8).reshape(len(rows), ticks, _WORD)
    for packed, slices in zip((low, high), _plane_slices(bits), strict=True):
        height = sum(end - first for _, first, end in slices)
        if not height and not len(packed):
            continue
        stored = np.frombuffer(inflate(packed, height * ticks), dtype=np.uint8).reshape(height, ticks)
        start = 0
        for plane, first, end in slices:
            part = stored[start : start + end - first]
            a, b = bisect_left(bounds, first), bisect_left(bounds, end)
            planes[a:b, :, plane] = part if every else part[sorted_ranks[a:b] - first]
            start += end - first
    back = np.empty_like(sequence)
    back[sequence] = np.arange(len(sequence))
    return residuals[back].astype(np.uint64, copy=False)
