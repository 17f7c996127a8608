"""The windows of one rule for thousands of Tenants at once, as columns: those of Tenants at which nothing is wrong.

`tenantry.detection.windows.TenantWindows` says what windows are and what comes of them. What lies here is held by that class as well
(`Kept`), and goes there and back without a change; here it is only counted, and looked at. As long as the values of windows are
surely quiet, judging them has no outcome, and nothing but sums is left of it. As soon as something may be otherwise (a value that may
cross a limit, one that is not finite, a long silence), the Tenant's row is *left*: it goes to a `TenantWindows`, which judges.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tenantry.detection.aggregates import Function, Summary
from tenantry.detection.windows import Category, Kept, WindowShape

MAX_CELLS: Final = 1_024
"""Stretches times categories that a row has room for; rules with more are judged one Tenant at a time."""
_DOUBT: Final = 1e-12
"""So much of what was summed up a sum may differ from the exact one."""

_Int64s = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Number = TypeVar("_Number", bound=np.generic)


class Row:
    """Where the windows of a Tenant are."""

    NEW: Final = 0
    """Nowhere yet: nothing of it has counted."""
    HERE: Final = 1
    AWAY: Final = 2
    """In a `TenantWindows`, or about to be."""


class Quiet(NamedTuple):
    """The values that change nothing: strictly between ``floor`` and ``ceiling``, of the aggregate at ``judged``."""

    judged: int
    floor: float
    ceiling: float


def fits(shape: WindowShape, categories: int) -> bool:
    """Whether windows of this shape, with so many categories, can be held as columns."""
    cells = _ring(shape) * categories
    return cells <= MAX_CELLS and all(one.summed_up for one in shape.aggregates)


class QuietWindows:
    """The windows of one rule, of Tenants whose samples come in one layout: a row for each, whose numbers the caller gives."""

    def __init__(self, shape: WindowShape, quiet: Quiet, categories: Sequence[Category]) -> None:
        """``categories`` has that of each column of the values to come, in the order in which they are counted."""
        self._shape, self._quiet = shape, quiet
        self._ring = _ring(shape)
        self._places = {category: place for place, category in enumerate(dict.fromkeys(categories))}
        self._passes = _passes([self._places[one] for one in categories])
        functions = {one.function for one in shape.aggregates}
        self._totals = not functions.isdisjoint({Function.SUM, Function.AVG})
        self._extremes = not functions.isdisjoint({Function.MIN, Function.MAX})
        self._ends = not functions.isdisjoint({Function.FIRST, Function.LAST})
        self.rows: NDArray[np.int8] = np.zeros(0, np.int8)
        """Where each Tenant's windows are: see `Row`."""
        self.used = 0
        """So many rows there are."""
        self._judged, self._newest, self._stretch = _whole(), _whole(), _whole()
        self._counted, self._first_at, self._last_at = _whole(), _whole(), _whole()
        self._total, self._low, self._high, self._first, self._last = (_floats() for _ in range(5))

    def reserve(self, rows: int) -> None:
        """Have so many rows."""
        self.used = max(self.used, rows)
        if rows <= len(self.rows):
            return
        more = max(rows, 2 * len(self.rows), 64)
        stretches = more * self._ring
        cells = stretches * len(self._places)
        self.rows = _longer(self.rows, more)
        self._judged, self._newest = _longer(self._judged, more), _longer(self._newest, more)
        self._stretch = _longer(self._stretch, stretches)
        self._counted = _longer(self._counted, cells)
        if self._totals:
            self._total = _longer(self._total, cells)
        if self._extremes:
            self._low, self._high = _longer(self._low, cells), _longer(self._high, cells)
        if self._ends:
            self._first_at, self._last_at = _longer(self._first_at, cells), _longer(self._last_at, cells)
            self._first, self._last = _longer(self._first, cells), _longer(self._last, cells)

    def take(self, rows: _Int64s, at: _Int64s, values: _Floats, heard: _Flags, *, judging: bool) -> _Flags:
        """Count in a tick of each of these rows, no row twice; says which were left: nothing of their ticks is counted.

        ``values`` are ticks x columns, NaN where absent; ``heard``: of the metric something is present. Without ``judging``, windows
        that close were judged before.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # values that are so large are not quiet
            return self._take(rows, at, values, heard, judging=judging)

    def _take(self, rows: _Int64s, at: _Int64s, values: _Floats, heard: _Flags, *, judging: bool) -> _Flags:
        shape = self._shape
        place, standing = at // shape.interval_ms, self.rows[rows]
        present = values == values
        counted = present.any(axis=1)
        heard = heard | counted
        odd = np.isinf(values).any(axis=1)
        fresh = counted & ~odd & (standing == Row.NEW)
        if fresh.any():
            begun = rows[fresh]
            self._judged[begun], self._newest[begun] = place[fresh], at[fresh]
            self._stretch.reshape(-1, self._ring)[begun] = place[fresh][:, None] - self._ring
            self.rows[begun] = standing[fresh] = Row.HERE
        here = heard & ~odd & (standing == Row.HERE)
        judged, newest = self._judged[rows], np.maximum(self._newest[rows], at)
        reached = (newest - shape.lateness_ms) // shape.interval_ms
        steps = np.where(here, reached - judged, 0)
        if steps.max(initial=0) > 0:
            here &= steps <= self._ring
            if judging:
                here &= ~self._loud(rows, judged, np.where(here, steps, 0))
            judged = np.maximum(judged, reached)
            self._judged[rows[here]] = judged[here]
        self._newest[rows[here]] = newest[here]
        counting = here & counted & (place >= judged)
        if counting.all():
            self._count(rows, place, at, values, present)
        elif counting.any():
            self._count(rows[counting], place[counting], at[counting], values[counting], present[counting])
        left: _Flags = heard & ~here & (counted | (standing != Row.NEW))
        return left

    def release(self, row: int) -> Kept:
        """What a row that is `Row.HERE` holds; it is `Row.AWAY` from now on."""
        self.rows[row] = Row.AWAY
        judged, first = int(self._judged[row]), row * self._ring
        stretches: dict[Category, dict[int, Summary]] = {}
        held = self._stretch[first : first + self._ring].tolist()
        for slot, place in enumerate(held):
            if place + self._shape.stretches <= judged:
                continue
            for category, number in self._places.items():
                cell = (first + slot) * len(self._places) + number
                if self._counted[cell]:
                    stretches.setdefault(category, {})[place] = self._summary(cell)
        return Kept(judged, int(self._newest[row]), stretches)

    def absorb(self, row: int, kept: Kept) -> bool:
        """Hold this in a row that is not `Row.HERE`. Says whether there is room for it; nothing is changed where there is not."""
        oldest, newest = kept.judged + 1 - self._shape.stretches, kept.newest_ms // self._shape.interval_ms
        if newest - oldest >= self._ring or not kept.stretches.keys() <= self._places.keys():
            return False
        self.rows[row] = Row.HERE
        self._judged[row], self._newest[row] = kept.judged, kept.newest_ms
        first = row * self._ring
        self._stretch[first : first + self._ring] = oldest - self._ring
        for category, stretches in kept.stretches.items():
            for place, summary in stretches.items():
                cell = first + place % self._ring
                if self._stretch[cell] != place:
                    self._clear(np.array([cell]), np.array([place]))
                self._recall(cell * len(self._places) + self._places[category], summary)
        return True

    def _summary(self, cell: int) -> Summary:
        summary = Summary(int(self._counted[cell]), 0.0, 0.0, 0.0, (0, 0.0), (0, 0.0))
        if self._totals:
            summary = summary._replace(total=float(self._total[cell]))
        if self._extremes:
            summary = summary._replace(low=float(self._low[cell]), high=float(self._high[cell]))
        if self._ends:
            summary = summary._replace(
                first=(int(self._first_at[cell]), float(self._first[cell])),
                last=(int(self._last_at[cell]), float(self._last[cell])),
            )
        return summary

    def _recall(self, cell: int, summary: Summary) -> None:
        self._counted[cell] = summary.counted
        if self._totals:
            self._total[cell] = summary.total
        if self._extremes:
            self._low[cell], self._high[cell] = summary.low, summary.high
        if self._ends:
            self._first_at[cell], self._first[cell] = summary.first
            self._last_at[cell], self._last[cell] = summary.last

    def _clear(self, stretches: _Int64s, places: _Int64s) -> None:
        """Begin anew with these stretches."""
        self._stretch[stretches] = places
        self._counted.reshape(-1, len(self._places))[stretches] = 0
        if self._totals:
            self._total.reshape(-1, len(self._places))[stretches] = 0.0
        if self._extremes:
            self._low.reshape(-1, len(self._places))[stretches] = np.inf
            self._high.reshape(-1, len(self._places))[stretches] = -np.inf

    def _count(self, rows: _Int64s, place: _Int64s, at: _Int64s, values: _Floats, present: _Flags) -> None:
        stretches = rows * self._ring + place % self._ring
        stale = self._stretch[stretches] != place
        if stale.any():
            self._clear(stretches[stale], place[stale])
        cells = stretches * len(self._places)
        for columns, numbers in self._passes:
            within = cells[:, None] + numbers
            seen, found = present[:, columns], values[:, columns]
            before = self._counted[within]
            self._counted[within] = before + seen
            if self._totals:
                self._total[within] += np.where(seen, found, 0.0)
            if self._extremes:
                self._low[within] = np.fmin(self._low[within], found)
                self._high[within] = np.fmax(self._high[within], found)
            if self._ends:
                self._see_ends(within, before == 0, at[:, None], found, seen)

    def _see_ends(self, within: _Int64s, empty: _Flags, at: _Int64s, found: _Floats, seen: _Flags) -> None:
        earlier = seen & (empty | (at < self._first_at[within]))
        later = seen & (empty | (at >= self._last_at[within]))
        self._first_at[within] = np.where(earlier, at, self._first_at[within])
        self._first[within] = np.where(earlier, found, self._first[within])
        self._last_at[within] = np.where(later, at, self._last_at[within])
        self._last[within] = np.where(later, found, self._last[within])

    def _loud(self, rows: _Int64s, judged: _Int64s, steps: _Int64s) -> _Flags:
        """Which rows have a value that may not be quiet, in the windows that end up to ``steps`` stretches behind what was judged."""
        loud = np.zeros(len(rows), np.bool_)
        back = np.arange(-self._shape.stretches, 0)
        for step in range(1, int(steps.max(initial=0)) + 1):
            closing = np.flatnonzero(steps >= step)
            places = (judged[closing] + step)[:, None] + back
            stretches = rows[closing][:, None] * self._ring + places % self._ring
            held = self._stretch[stretches] == places
            loud[closing] |= self._may_be_wrong(stretches, held).any(axis=1)
        return loud

    def _may_be_wrong(self, stretches: _Int64s, held: _Flags) -> _Flags:
        """Which categories may have a value that counts, in windows of these stretches: those that are not ``held`` are empty."""
        cells = stretches[:, :, None] * len(self._places) + np.arange(len(self._places))
        counted = np.where(held[:, :, None], self._counted[cells], 0)
        count, there = counted.sum(axis=1), counted > 0
        doubt: _Floats | float = 0.0
        value: NDArray[np.float64]
        match self._shape.aggregates[self._quiet.judged].function:
            case Function.SUM | Function.AVG as function:
                totals = np.where(there, self._total[cells], 0.0)
                value, doubt = totals.sum(axis=1), np.abs(totals).sum(axis=1) * _DOUBT
                if function is Function.AVG:
                    value, doubt = value / np.maximum(count, 1), doubt / np.maximum(count, 1)
            case Function.MIN:
                value = np.where(there, self._low[cells], np.inf).min(axis=1)
            case Function.MAX:
                value = np.where(there, self._high[cells], -np.inf).max(axis=1)
            case Function.FIRST:
                value = _picked(self._first[cells], there.argmax(axis=1))
            case Function.LAST:
                value = _picked(self._last[cells], there.shape[1] - 1 - there[:, ::-1].argmax(axis=1))
            case _:
                value = count.astype(np.float64)
        quiet = (self._quiet.floor < value - doubt) & (value + doubt < self._quiet.ceiling)
        wrong: _Flags = (count > 0) & ~quiet
        return wrong


def _ring(shape: WindowShape) -> int:
    """So many stretches may count at one time: those of the next window, and the newer ones that wait for what is late."""
    return shape.stretches + -(-shape.lateness_ms // shape.interval_ms) + 2


def _passes(numbers: Sequence[int]) -> list[tuple[_Int64s, _Int64s]]:
    """Columns and the numbers of their categories, in portions in which no category is twice: sums depend on their order."""
    passes: list[tuple[list[int], list[int]]] = []
    seen: dict[int, int] = {}
    for column, number in enumerate(numbers):
        place = seen[number] = seen.get(number, -1) + 1
        if place == len(passes):
            passes.append(([], []))
        passes[place][0].append(column)
        passes[place][1].append(number)
    return [(np.array(columns), np.array(own)) for columns, own in passes]


def _picked(values: _Floats, places: _Int64s) -> _Floats:
    picked: _Floats = np.take_along_axis(values, places[:, None, :], axis=1)[:, 0, :]
    return picked


def _whole() -> _Int64s:
    return np.zeros(0, np.int64)


def _floats() -> _Floats:
    return np.zeros(0)


def _longer(values: NDArray[_Number], length: int) -> NDArray[_Number]:
    longer: NDArray[_Number] = np.zeros(length, values.dtype)
    longer[: len(values)] = values
    return longer
