"""Ticks of a metric, as columns: layouts that have the same series of it are one, whatever else they have.

Tenants differ in their disks and interfaces, so nearly each has a layout of its own; what a rule reads of it is the same for many.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.master.operations.metric_columns import LayoutTicks
from tenantry.protocol.layouts import Layout, Series

FEW: Final = 16
"""Fewer ticks at a time are not worth a round: columns cost the same for one and for hundreds."""

_Int64s = NDArray[np.int64]


class Form(NamedTuple):
    """The series that layouts have of a metric, in their order."""

    metric: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Ticks of one form, in the order of storing; ``numbers`` orders those of a layout, ``origins`` are its columns there."""

    form: Form
    layout_ids: _Int64s
    numbers: _Int64s
    tenant_ids: _Int64s
    timestamps: _Int64s
    received_at: _Int64s
    values: NDArray[np.float64]
    origins: Mapping[int, Sequence[int]]

    def __len__(self) -> int:
        return len(self.timestamps)

    def take(self, rows: _Int64s | slice) -> "Sheet":
        """These rows, in this order."""
        return replace(
            self,
            layout_ids=self.layout_ids[rows],
            numbers=self.numbers[rows],
            tenant_ids=self.tenant_ids[rows],
            timestamps=self.timestamps[rows],
            received_at=self.received_at[rows],
            values=self.values[rows],
        )


class _Cut(NamedTuple):
    """Which columns of a layout are those of a form, which has a number."""

    number: int
    columns: _Int64s | slice
    origins: Sequence[int]


class _Part(NamedTuple):
    """What a sheet has of the ticks of one layout; so many were ``before`` them, of other layouts."""

    ticks: LayoutTicks
    before: int
    cut: _Cut


class SheetMaker:
    """Makes sheets of ticks, for metrics that are wanted."""

    def __init__(self, metrics: frozenset[str] = frozenset()) -> None:
        """The ticks have the series of these metrics, and no others."""
        self._metrics = metrics
        self._forms: dict[Form, int] = {}
        self._cuts: dict[int, list[_Cut]] = {}

    def make(self, ticks: Sequence[LayoutTicks], layouts: Mapping[int, Layout]) -> list[Sheet]:
        """The sheets of ticks, which come by layout and in the order of storing."""
        parts: dict[int, list[_Part]] = {}
        before = 0
        for one in ticks:
            for cut in self._cuts_of(one.layout_id, layouts):
                parts.setdefault(cut.number, []).append(_Part(one, before, cut))
            before += len(one.timestamps)
        forms = list(self._forms)
        return [_sheet(forms[number], own) for number, own in parts.items()]

    def _cuts_of(self, layout_id: int, layouts: Mapping[int, Layout]) -> list[_Cut]:
        cuts = self._cuts.get(layout_id)
        if cuts is None:
            found: dict[str, list[tuple[int, Series]]] = {}
            wanted = (one for one in layouts[layout_id].series if one.name in self._metrics)
            for column, series in enumerate(wanted):
                found.setdefault(series.name, []).append((column, series))
            cuts = self._cuts[layout_id] = [self._cut(metric, own) for metric, own in found.items()]
        return cuts

    def _cut(self, metric: str, own: Sequence[tuple[int, Series]]) -> _Cut:
        form, places = Form(metric, tuple(series for _, series in own)), [column for column, _ in own]
        number = self._forms.setdefault(form, len(self._forms))
        first, last = places[0], places[-1]
        together = last - first + 1 == len(places)
        return _Cut(number, slice(first, last + 1) if together else np.array(places, np.int64), places)


class Batch:
    """A sheet as it is looked at: in rounds."""

    def __init__(self, sheet: Sheet, rows: _Int64s) -> None:
        """``rows`` has a number for each tick, equal where it is of the same Tenant."""
        self.sheet, self.rows = sheet, rows
        self.rounds: list[_Int64s | slice] = []
        """Places in portions in which no Tenant is twice, in their order."""
        self.rest: _Int64s = np.zeros(0, np.int64)
        """Those of portions that are too small, in the order of storing."""
        self.heard: NDArray[np.bool_] = (sheet.values == sheet.values).any(axis=1)
        lengths = np.unique(rows, return_counts=True)[1]
        if len(lengths) == len(rows):
            if len(rows) < FEW:
                self.rest = np.arange(len(rows))
            else:
                self.rounds.append(slice(None))
            return
        nth = np.empty(len(rows), np.int64)
        nth[np.argsort(rows, kind="stable")] = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        full = int((np.bincount(nth) >= FEW).sum())
        self.rounds.extend(np.flatnonzero(nth == number) for number in range(full))
        self.rest = np.flatnonzero(nth >= full)


def in_portions(sheet: Sheet, most: int) -> Iterator[Sheet]:
    """A sheet in portions of at most so many ticks."""
    if len(sheet) <= most:
        yield sheet
        return
    for begin in range(0, len(sheet), most):
        yield sheet.take(slice(begin, begin + most))


def _sheet(form: Form, parts: Sequence[_Part]) -> Sheet:
    lengths = [len(part.ticks.timestamps) for part in parts]
    sizes = np.array(lengths)
    skipped = np.array([part.before for part in parts]) - (np.cumsum(sizes) - sizes)
    values = [part.ticks.values[:, part.cut.columns] for part in parts]
    sheet = Sheet(
        form,
        np.repeat(np.array([part.ticks.layout_id for part in parts], np.int64), sizes),
        np.repeat(skipped, sizes) + np.arange(sum(lengths)),
        _joined([part.ticks.tenant_ids for part in parts]),
        _joined([part.ticks.timestamps for part in parts]),
        _joined([part.ticks.received_at for part in parts]),
        values[0] if len(values) == 1 else np.concatenate(values),
        {part.ticks.layout_id: part.cut.origins for part in parts},
    )
    if len(parts) == 1:
        return sheet
    order = (sheet.numbers, sheet.timestamps, sheet.layout_ids, sheet.tenant_ids, sheet.received_at)
    return sheet.take(np.lexsort(order))


def _joined(parts: Sequence[_Int64s]) -> _Int64s:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
