"""Samples as blocks of columns: one row a sample, or one row for each cell of a series (see `partials`) that sums them up.

A cell is made of what one chunk holds, so nothing has to be known about other chunks, however they overlap: what belongs together
across them is put together by the engine. Samples of segments are cells of one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tenantry.master.query.partials import COUNT, GREATEST, LEAST, SUM

Bools = NDArray[np.bool_]
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Float64s = NDArray[np.float64]

_Kind = TypeVar("_Kind", bound=np.generic)

_FOLDS: Final = {SUM: (np.add, 0.0), LEAST: (np.minimum, np.inf), GREATEST: (np.maximum, -np.inf)}
"""What puts the values of a cell together, and what an absent value is put in for."""


@dataclass(slots=True)
class Block:
    """Some rows: the columns that are not the same for all of them. ``series`` are codes within ``layout_id``'s list."""

    layout_id: int
    timestamps: Int64s
    received: Int64s | None
    tenants: Int32s
    series: Int32s
    numbers: dict[str, Float64s]
    """By the names of their columns."""
    samples: int
    """How many samples the rows tell of."""

    def __len__(self) -> int:
        return len(self.series)

    def chosen(self, mask: Bools, samples: int) -> "Block":
        """The rows for which the mask is true."""
        places = np.flatnonzero(mask)
        return Block(
            self.layout_id,
            self.timestamps[places],
            None if self.received is None else self.received[places],
            self.tenants[places],
            self.series[places],
            {name: values[places] for name, values in self.numbers.items()},
            samples,
        )


@dataclass(frozen=True, slots=True)
class Decoded:
    """Chunks of one layout and length: times are [chunks, ticks], ``values`` [chunks, series, ticks] with NaN where absent."""

    layout_id: int
    tenants: Int32s
    """The code of each chunk's Tenant."""
    series: Int32s
    timestamps: Int64s
    received: Int64s | None
    values: Float64s
    kept: Bools | None
    """Which ticks are meant, [chunks, ticks]; None for all."""

    def samples(self) -> Block:
        """A row for each sample that is there."""
        shape = self.values.shape
        flat = self.values.reshape(-1)
        missing = np.isnan(flat)
        mask = ~missing if missing.any() else None
        if self.kept is not None:
            spread = np.broadcast_to(self.kept[:, None, :], shape).reshape(-1)
            mask = spread if mask is None else mask & spread
        block = Block(
            self.layout_id,
            np.broadcast_to(self.timestamps[:, None, :], shape).reshape(-1),
            None if self.received is None else np.broadcast_to(self.received[:, None, :], shape).reshape(-1),
            np.repeat(self.tenants, shape[1] * shape[2]),
            np.broadcast_to(self.series[None, :, None], shape).reshape(-1),
            {"value": flat},
            flat.size,
        )
        return block if mask is None else block.chosen(mask, int(np.count_nonzero(mask)))

    def cells(self, grain_ms: int, needed: Collection[str]) -> Block:
        """A row for each cell that holds a sample, with the ``needed`` of `CELL_COLUMNS`."""
        shape = self.values.shape
        series_ticks, ticks = shape[1] * shape[2], shape[2]
        begins = np.broadcast_to(self._begins(grain_ms)[:, None, :], shape)
        starts = np.flatnonzero(begins)
        chunks = starts // series_ticks
        within = starts - chunks * series_ticks
        series = within // ticks
        places = within - series * ticks
        flat = self.values.reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):  # as in the engine: what is not finite is absent in the end
            sums = np.add.reduceat(flat, starts)
            if np.isnan(sums).any():
                counts, numbers = _with_gaps(flat, starts, needed)
            else:
                counts = np.diff(starts, append=flat.size)
                numbers = {
                    name: sums if name == SUM else fold.reduceat(flat, starts)
                    for name, (fold, _) in _FOLDS.items()
                    if name in needed
                }
        if COUNT in needed:
            numbers[COUNT] = counts.astype(np.float64)
        block = Block(
            self.layout_id,
            self.timestamps[chunks, places],
            None,
            self.tenants[chunks],
            self.series[series],
            numbers,
            int(counts.sum()),
        )
        held = counts > 0
        if self.kept is not None:
            held &= self.kept[chunks, places]
        return block if held.all() else block.chosen(held, int(counts[held].sum()))

    def _begins(self, grain_ms: int) -> Bools:
        """Which ticks begin a cell; ticks that are not meant are in cells of their own."""
        begins = np.zeros(self.timestamps.shape, np.bool_)
        begins[:, 0] = True
        if grain_ms:
            grains = self.timestamps // grain_ms
            begins[:, 1:] |= grains[:, 1:] != grains[:, :-1]
        if self.kept is not None:
            begins[:, 1:] |= self.kept[:, 1:] != self.kept[:, :-1]
        return begins


def _with_gaps(flat: Float64s, starts: Int64s, needed: Collection[str]) -> tuple[Int64s, dict[str, Float64s]]:
    """The counts of cells, and their numbers, where values are absent."""
    missing = np.isnan(flat)
    counts = np.add.reduceat(~missing, starts, dtype=np.int64)
    numbers = {
        name: fold.reduceat(np.where(missing, neutral, flat), starts)
        for name, (fold, neutral) in _FOLDS.items()
        if name in needed
    }
    return counts, numbers


def single(values: Float64s, needed: Collection[str]) -> dict[str, Float64s]:
    """The numbers of cells of one sample each."""
    return {name: np.ones(len(values)) if name == COUNT else values for name in (COUNT, *_FOLDS) if name in needed}


def joined(parts: Sequence[NDArray[_Kind]]) -> NDArray[_Kind]:
    """Columns one after the other."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
