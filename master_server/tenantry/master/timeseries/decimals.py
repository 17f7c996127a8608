"""Decimal scaling: float64 rows that are really short decimals -> int64 rows, bit for bit reversible.

A value such as 0.123 or 41.7 is a whole number that was divided by a power of ten. Percentages that were divided by 100
afterwards are one rounding away from that, so the second division is a scale of its own.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenantry.master.timeseries.residuals import Bytes, Int64s

Float64s = NDArray[np.float64]

_LIMIT: Final = float(1 << 62)
RAW: Final = 0
"""The scale of rows that are no decimals: the integer is the bit pattern."""
_DIVISORS: Final = np.array(
    [[1, 1]] + [[10**digits, 1] for digits in range(7)] + [[10, 100], [100, 100], [10**9, 1]],
    dtype=np.float64,
)
"""For each scale, what the integer is divided by, first and then; the first row stands for RAW."""
SCALES: Final = len(_DIVISORS)
_PROBE: Final = 8


def to_integers(values: Float64s) -> tuple[Bytes, Int64s]:
    """The first scale that represents all of a row exactly, for each row, and the rows as integers.

    -0.0, infinities and NaN are in no decimal scale; rows with them are RAW.
    """
    integers = values.view(np.int64).copy()
    scales = np.zeros(len(values), dtype=np.uint8)
    fitting = _probe(values)
    left = np.flatnonzero(fitting.any(axis=1))
    while len(left):
        tried = np.argmax(fitting[left], axis=1) + 1
        scaled, exact = _scaled(values[left], _DIVISORS[tried])
        found = left[exact]
        integers[found], scales[found] = scaled[exact], tried[exact]
        fitting[left, tried - 1] = False
        left = left[~exact & fitting[left].any(axis=1)]
    return scales, integers


def to_values(scales: Bytes, integers: Int64s) -> Float64s:
    """The rows that `to_integers` got."""
    values = integers.astype(np.float64)
    for step in (0, 1):
        divisors = _DIVISORS[scales, step]
        divided = np.flatnonzero(divisors != 1)
        if len(divided) == len(values):
            values /= divisors[:, None]
        elif len(divided):
            values[divided] /= divisors[divided, None]
    raw = np.flatnonzero(scales == RAW)
    if len(raw):
        values[raw] = integers[raw].view(np.float64)
    return values


def _probe(values: Float64s) -> NDArray[np.bool_]:
    """Which scales, from 1 on, represent a few values of each row exactly: the others need not be tried on all of it."""
    spread = np.linspace(0, values.shape[1] - 1, _PROBE).astype(np.int64)
    few = np.repeat(values[:, spread], SCALES - 1, axis=0)
    fitting = _scaled(few, np.tile(_DIVISORS[1:], (len(values), 1)))[1]
    return fitting.reshape(len(values), SCALES - 1)


def _scaled(values: Float64s, divisors: Float64s) -> tuple[Int64s, NDArray[np.bool_]]:
    """The rows times their two divisors, as integers, and from which of them a reader gets back all values."""
    first, second = divisors[:, :1], divisors[:, 1:]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * (first * second)
        np.rint(scaled, out=scaled)
        inside = np.abs(scaled) < _LIMIT
    if not inside.all():
        scaled[~inside] = 0
    scaled += 0.0  # an integer has no -0.0
    again = scaled / first
    if (second != 1).any():
        again /= second
    return scaled.astype(np.int64), (again.view(np.int64) == values.view(np.int64)).all(axis=1)
