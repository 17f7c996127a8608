"""Rows of int64 -> small unsigned residuals and back, for all rows at once; arithmetic wraps modulo 2^64 throughout.

A row x is described as x[i] = base + ((slope * i + sums(r)[i]) << shift), where r is summed up `order` times.
Order 0 fits noise around a level, order 1 random walks and counters, order 2 counters whose rate drifts.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_ORDER: Final = 2
MAX_SHIFT: Final = 63

Int64s = NDArray[np.int64]
Uint64s = NDArray[np.uint64]
Unsigned = NDArray[np.unsignedinteger[Any]]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Model:
    """How each row was predicted: one entry for each row in every column."""

    base: Int64s
    slope: Int64s
    order: Bytes
    shift: Bytes

    def take(self, rows: Int64s) -> "Model":
        """The model of these rows, in this order."""
        return Model(self.base[rows], self.slope[rows], self.order[rows], self.shift[rows])


def predict(rows: Int64s) -> tuple[Model, Uint64s]:
    """The model of each row that leaves the smallest residuals, and the residuals, zigzag-coded.

    `rows` is [rows, ticks] with at least one tick.
    """
    count, ticks = rows.shape
    offsets = rows - rows[:, :1]
    shift = _trailing_zeros(np.bitwise_or.reduce(offsets, axis=1))
    offsets >>= shift[:, None]
    middle = np.partition(offsets, ticks // 2, axis=1)[:, ticks // 2]
    steps = offsets[:, -1] // max(ticks - 1, 1)
    first = _changes(offsets)
    pace = first[:, 1].copy() if ticks > 1 else np.zeros(count, dtype=np.int64)
    drifts = _changes(first)
    drifts[:, 1:2] = 0
    walks = first
    walks[:, 1:] -= steps[:, None]
    levels = offsets
    levels -= middle[:, None]
    order = np.argmin([_cost(levels), _cost(walks), _cost(drifts)], axis=0)
    residuals = levels
    for number, candidate in ((1, walks), (2, drifts)):
        chosen = np.flatnonzero(order == number)
        residuals[chosen] = candidate[chosen]
    zero = np.zeros(count, dtype=np.int64)
    model = Model(
        base=rows[:, 0] + np.where(order == 0, middle << shift, zero),
        slope=np.choose(order, (zero, steps, pace)),
        order=order.astype(np.uint8),
        shift=shift.astype(np.uint8),
    )
    return model, ((residuals << 1) ^ (residuals >> 63)).view(np.uint64)


def _changes(rows: Int64s) -> Int64s:
    """What each value adds to the one before it; 0 for the first."""
    changes = np.empty_like(rows)
    changes[:, :1] = 0
    np.subtract(rows[:, 1:], rows[:, :-1], out=changes[:, 1:])
    return changes


def restore(model: Model, zigzag: Unsigned) -> Int64s:
    """The rows that `predict` turned into `model` and `zigzag`, which may be of any unsigned type that holds it.

    Uses the memory of `zigzag`. Rows of one order and all without a shift need the fewest passes.
    """
    signs = zigzag & zigzag.dtype.type(1)
    np.negative(signs, out=signs)
    zigzag >>= zigzag.dtype.type(1)
    zigzag ^= signs
    rows = zigzag.view(f"i{zigzag.dtype.itemsize}").astype(np.int64, copy=False)
    shifted = bool(model.shift.any())
    orders = np.bincount(model.order, minlength=MAX_ORDER + 1)
    if orders[MAX_ORDER]:
        _sum_up(rows, model.order == MAX_ORDER, model.slope, 1)
    if orders[1:].any():
        if not shifted and not orders[0]:
            rows[:, 0] += model.base
        _sum_up(rows, model.order >= 1, np.where(model.order == 1, model.slope, 0), len(rows[0]) - 1)
    if shifted:
        rows <<= model.shift[:, None].astype(np.int64)
    if shifted or orders[0]:
        rows += model.base[:, None]
    return rows


def _sum_up(rows: Int64s, chosen: NDArray[np.bool_], slope: Int64s, steps: int) -> None:
    """Put running sums in place of the chosen rows, with the slope added to so many values behind the first."""
    places = slice(None) if chosen.all() else np.flatnonzero(chosen)
    part = rows[places]
    if slope[places].any():
        part[:, 1 : steps + 1] += slope[places, None]
    np.cumsum(part, axis=1, out=part)
    if not isinstance(places, slice):
        rows[places] = part


def _trailing_zeros(bits: Int64s) -> Int64s:
    lowest = (bits & -bits).view(np.uint64).astype(np.float64)  # a power of two, exact
    return np.where(bits != 0, np.frexp(lowest)[1] - 1, 0).astype(np.int64)


def _cost(residuals: Int64s) -> Int64s:
    """About how many bits each row needs, in a unit of its own: a float read as an integer grows like its logarithm."""
    magnitudes = residuals.astype(np.float32)
    np.abs(magnitudes, out=magnitudes)
    magnitudes += np.float32(1)
    cost: Int64s = magnitudes.view(np.int32).sum(axis=1, dtype=np.int64)
    return cost
