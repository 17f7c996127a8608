"""Frames of metrics: one alone, many of one shape side by side, and tables of columns that are cut and sorted as a whole."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.sealing import Octets

SAMPLE_BYTES: Final = 8

_Int64s = NDArray[np.int64]


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
class FrameTable:
    """Frames as columns: one entry a frame in each, but for `timestamps` with one a tick, and `values` with all octets."""

    tenant_ids: _Int64s
    layout_ids: _Int64s
    seqs: NDArray[np.uint64]
    received_at: _Int64s
    ticks: _Int64s
    sizes: _Int64s
    """Octets of values."""
    timestamps: _Int64s
    values: Octets

    def __len__(self) -> int:
        return len(self.tenant_ids)

    @classmethod
    def of_frames(cls, frames: Sequence[Frame]) -> Self:
        """The frames in the order given. Raises ValueError for a number out of 64 bits, or values that are not octets."""
        tenant_ids, layout_ids, seqs, received_at, stamps, values = zip(*frames, strict=True) if frames else ((),) * 6
        ticks, sizes = [*map(len, stamps)], [*map(len, values)]
        octets = b"".join(values)
        if len(octets) != sum(sizes):
            raise ValueError("values are bytes, or a memoryview of bytes")
        return cls(
            _whole(tenant_ids),
            _whole(layout_ids),
            _numbers(seqs),
            _whole(received_at),
            _whole(ticks),
            _whole(sizes),
            _whole([*itertools.chain.from_iterable(stamps)]),
            octets,
        )

    @classmethod
    def of_columns(cls, columns: FrameColumns) -> Self:
        """The frames in the order given. Raises ValueError as `of_frames` does, and for columns that do not fit together."""
        count = len(columns.tenant_ids)
        size, rest = divmod(len(columns.values), max(count, 1))
        if rest or not count == len(columns.seqs) == len(columns.timestamps):
            raise ValueError("columns are of one length, and values of one size")
        return cls(
            _whole(columns.tenant_ids),
            np.full(count, columns.layout_id, np.int64),
            _numbers(columns.seqs),
            np.full(count, columns.received_at, np.int64),
            np.ones(count, np.int64),
            np.full(count, size, np.int64),
            _whole(columns.timestamps),
            columns.values,
        )

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """All frames of some tables."""
        if len(tables) == 1:
            return tables[0]
        if not tables:
            return cls.of_frames(())
        return cls(
            np.concatenate([table.tenant_ids for table in tables]),
            np.concatenate([table.layout_ids for table in tables]),
            np.concatenate([table.seqs for table in tables]),
            np.concatenate([table.received_at for table in tables]),
            np.concatenate([table.ticks for table in tables]),
            np.concatenate([table.sizes for table in tables]),
            np.concatenate([table.timestamps for table in tables]),
            b"".join([table.values for table in tables]),
        )

    def take(self, places: _Int64s) -> Self:
        """The frames in these places, in this order; their values are whole float64."""
        if len(places) == len(self) and (np.diff(places) == 1).all():
            return self
        words = np.frombuffer(self.values, np.int64)
        return type(self)(
            self.tenant_ids[places],
            self.layout_ids[places],
            self.seqs[places],
            self.received_at[places],
            self.ticks[places],
            self.sizes[places],
            _gather(self.timestamps, self.ticks, places),
            _gather(words, self.sizes // SAMPLE_BYTES, places).tobytes(),
        )

    def choose(self, wanted: NDArray[np.bool_], values: Octets) -> Self:
        """Those frames for which ``wanted`` is true, whose values are ``values``."""
        if wanted.all():
            return replace(self, values=values)
        return type(self)(
            self.tenant_ids[wanted],
            self.layout_ids[wanted],
            self.seqs[wanted],
            self.received_at[wanted],
            self.ticks[wanted],
            self.sizes[wanted],
            self.timestamps[np.repeat(wanted, self.ticks)],
            values,
        )

    def by_series(self) -> Self:
        """By Tenant and layout; frames of one Tenant and layout keep their order."""
        return self.take(np.lexsort((self.layout_ids, self.tenant_ids)))

    def count_series(self) -> int:
        """How many Tenants and layouts there are in a table that is sorted by them."""
        new = (np.diff(self.tenant_ids) != 0) | (np.diff(self.layout_ids) != 0)
        return int(np.count_nonzero(new)) + 1 if len(self) else 0

    def frames(self) -> list[Frame]:
        """One by one, in this order."""
        tick_ends, ends = np.cumsum(self.ticks), np.cumsum(self.sizes)
        values = bytes(self.values)
        return [
            Frame(tenant_id, layout_id, seq, received_at, tuple(self.timestamps[a:b].tolist()), values[c:d])
            for tenant_id, layout_id, seq, received_at, a, b, c, d in zip(
                self.tenant_ids.tolist(),
                self.layout_ids.tolist(),
                self.seqs.tolist(),
                self.received_at.tolist(),
                (tick_ends - self.ticks).tolist(),
                tick_ends.tolist(),
                (ends - self.sizes).tolist(),
                ends.tolist(),
                strict=True,
            )
        ]


def _whole(numbers: Sequence[int]) -> _Int64s:
    try:
        return np.array(numbers, dtype=np.int64)
    except OverflowError as error:
        raise ValueError(f"a number of a frame does not fit in 64 bits: {error}") from error


def _numbers(seqs: Sequence[int]) -> NDArray[np.uint64]:
    try:
        return np.array(seqs, dtype=np.uint64)
    except OverflowError as error:
        raise ValueError(f"a number of a frame does not fit in 64 bits: {error}") from error


def _gather(items: _Int64s, counts: _Int64s, places: _Int64s) -> _Int64s:
    """The items of the frames in these places, where each frame has so many, one frame after the other."""
    if not len(counts):
        return items
    most = int(counts[0])
    if (counts == most).all():
        rows: _Int64s = items.reshape(-1, most)[places]
        return rows.reshape(-1)
    own = counts[places]
    starts = (np.cumsum(counts) - counts)[places] - (np.cumsum(own) - own)
    gathered: _Int64s = items[np.repeat(starts, own) + np.arange(own.sum())]
    return gathered
