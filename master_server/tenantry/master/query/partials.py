"""Which queries can be worked out over sums of samples, and the same queries over those.

A *cell* is the run of a series' samples within one chunk whose timestamps lie between two multiples of a grain. The source can
hand over a row for each cell instead of one for each sample: how many, their sum, the least and the greatest. A query means the
same over cells where everything that it asks for before it groups, and groups by, is the same for all samples of a cell, and its
aggregates can be put together from those four. The grain is chosen so that nothing which the query asks about time changes inside
of a cell; a cell's timestamp is that of one of its samples, so the query's own conditions and buckets are worked out over it as
over samples, and no part of the rules about time is written down twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import gcd
from types import MappingProxyType
from typing import Final

from tenantry.master.domain.stream_fields import METRICS
from tenantry.nql.fields import Column, FieldType, Schema
from tenantry.nql.times import DAY_MS, FIXED_MS, HOUR_MS, MINUTE_MS
from tenantry.nql.tree import Interval, Operation, Presence
from tenantry.nql.typed import (
    Applied,
    Chosen,
    ColumnValue,
    Compared,
    Computed,
    ConstantValue,
    Contained,
    Converted,
    EntryValue,
    Every,
    FrequentStep,
    GroupStep,
    KeepStep,
    Matched,
    NamedValue,
    Opposite,
    PathValue,
    Present,
    SelectStep,
    Some,
    Step,
    TypedAggregate,
    TypedExpression,
    TypedQuery,
    TypedResult,
)
from tenantry.nql.zones import Zone

HIDDEN: Final = "__"
"""What names begin with that no query may use for its own columns if cells are to answer it."""
COUNT: Final = "__count"
SUM: Final = "__sum"
LEAST: Final = "__least"
GREATEST: Final = "__greatest"
CELL_COLUMNS: Final = (COUNT, SUM, LEAST, GREATEST)

_VALUE: Final = "value"
_INSIDE: Final = frozenset({_VALUE, "receivedAt"})
"""Columns of samples that cells do not have."""
CELLS: Final = Schema(
    MappingProxyType(
        {
            **{name: kind for name, kind in METRICS.columns.items() if name not in _INSIDE},
            **dict.fromkeys(CELL_COLUMNS, FieldType.NUMBER),
        }
    ),
    time=METRICS.time,
    order=(METRICS.time,),
)
"""What the source hands over in place of samples."""

_SHORTEST_MS: Final = 1_000
"""Below this a cell would hold one sample."""
_PARTS: Final = {
    "getYear": DAY_MS,
    "getMonth": DAY_MS,
    "getDay": DAY_MS,
    "getDayOfWeek": DAY_MS,
    "getDayOfYear": DAY_MS,
    "getHour": HOUR_MS,
    "getMinute": MINUTE_MS,
}


@dataclass(frozen=True, slots=True)
class Partial:
    """A query over `CELLS`. ``grain_ms``: cells end at its multiples; 0: a cell is all of a chunk."""

    query: TypedQuery
    grain_ms: int


def partial(query: TypedQuery, zone: Zone, start_ms: int | None, end_ms: int | None) -> Partial | None:
    """The same query over cells, where it can be worked out over them; None where it cannot.

    ``start_ms`` (inclusive) and ``end_ms`` (exclusive) bound the times of samples, where the query says so.
    """
    clock = _Clock.of(zone, start_ms, end_ms)
    results, grain = [], 0
    try:
        for result in query.results:
            rewriting = _Rewriting(clock)
            results.append(TypedResult(result.name, rewriting.steps(result.steps), result.columns))
            grain = gcd(grain, rewriting.grain)
    except _NeedsSamples:
        return None
    return Partial(TypedQuery(tuple(results)), grain) if not grain or grain >= _SHORTEST_MS else None


class _NeedsSamples(Exception):
    """The query asks for what cells do not tell."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """What the wall clock of a zone has to do with grains: ``odd`` divides its offsets and the moments at which they change."""

    odd: int

    @classmethod
    def of(cls, zone: Zone, start_ms: int | None, end_ms: int | None) -> _Clock:
        first = 0 if start_ms is None else bisect_right(zone.changes, start_ms)
        last = len(zone.changes) if end_ms is None else bisect_right(zone.changes, end_ms)
        return cls(gcd(*zone.offsets[first : last + 1], *zone.changes[first:last]))

    def grain(self, span_ms: int) -> int:
        """Between two multiples of this the wall clock passes no multiple of a span, and is not put forward or back."""
        return gcd(span_ms, self.odd)


@dataclass(slots=True)
class _Rewriting:
    """One result. ``grains``: of each column at this place of the pipe within what it does not change, 0 for series' own.

    Columns that may change from sample to sample are not among them; ``values`` and ``moments`` are the names, by now, of the
    samples' values and times.
    """

    clock: _Clock
    grain: int = 0
    grains: dict[str, int] = field(default_factory=dict)
    values: set[str] = field(default_factory=lambda: {_VALUE})
    moments: set[str] = field(default_factory=lambda: {METRICS.time})

    def __post_init__(self) -> None:
        self.grains = dict.fromkeys(METRICS.columns.keys() - {METRICS.time, *_INSIDE}, 0)

    def steps(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The steps over cells. Raises _NeedsSamples."""
        done: list[Step] = []
        for place, step in enumerate(steps):
            match step:
                case KeepStep(condition):
                    self._ask(condition)
                    done.append(step)
                case SelectStep():
                    done.append(self._select(step))
                case GroupStep(ranged=None):
                    return (*done, *self._group(step), *steps[place + 1 :])
                case FrequentStep():
                    return (*done, self._frequent(step), *steps[place + 1 :])
                case _:
                    raise _NeedsSamples
        raise _NeedsSamples

    # ---- expressions

    def _ask(self, *values: TypedExpression) -> None:
        """Let these be the same for all samples of a cell. Raises _NeedsSamples."""
        for value in values:
            self.grain = gcd(self.grain, self._grain_of(value))

    def _grain_of(self, value: TypedExpression) -> int:
        match value:
            case ColumnValue(name) | EntryValue(name) | PathValue(name):
                if name not in self.grains:
                    raise _NeedsSamples
                return self.grains[name]
            case Applied("timeBucket", (ColumnValue(name),), settings=(Interval(count, unit),)) if name in self.moments:
                # Longer buckets than those of hours begin at midnight.
                return self.clock.grain(FIXED_MS[unit] * count if unit in FIXED_MS else DAY_MS)
            case Applied(function, (ColumnValue(name),)) if name in self.moments and function in _PARTS:
                return self.clock.grain(_PARTS[function])
            case _:
                return gcd(*map(self._grain_of, _parts(value)))

    # ---- steps

    def _select(self, step: SelectStep) -> SelectStep:
        """What can be computed over cells is; the rest is left out, and whoever needs it needs samples."""
        kept: list[NamedValue] = []
        grains: dict[str, int] = {}
        values, moments = set[str](), set[str]()
        for one in step.values:
            _refuse_hidden(one.name)
            match one.value:
                case ColumnValue(name) if name in self.values:
                    values.add(one.name)
                    continue
                case ColumnValue(name) if name in self.moments:
                    moments.add(one.name)
                case value:
                    try:
                        grains[one.name] = self._grain_of(value)
                    except _NeedsSamples:
                        continue
            kept.append(one)
        self.grains, self.values, self.moments = grains, values, moments
        kept += [NamedValue(name, _number(name)) for name in CELL_COLUMNS]
        return SelectStep(tuple(kept), tuple(Column(one.name, one.value.type) for one in kept))

    def _group(self, step: GroupStep) -> tuple[Step, ...]:
        for key in step.keys:
            _refuse_hidden(key.name)
        self._ask(*(key.value for key in step.keys))
        sums = _Sums()
        shown = [NamedValue(one.name, self._put_together(one, sums)) for one in step.aggregates]
        keys = [NamedValue(key.name, ColumnValue(key.name, key.value.type)) for key in step.keys]
        inner = tuple(sums.aggregates)
        columns = (*step.columns[: len(keys)], *(Column(one.name, one.type) for one in inner))
        return replace(step, aggregates=inner, columns=columns), SelectStep((*keys, *shown), step.columns)

    def _frequent(self, step: FrequentStep) -> FrequentStep:
        self._ask(*(one.value for one in (*step.groups, *step.fields)))
        sums = _Sums()
        match self._put_together(step.measure, sums), sums.aggregates:
            case ((ColumnValue() | Applied("coalesce")), [only]):
                return replace(step, measure=replace(only, name=step.measure.name))
            case _:
                raise _NeedsSamples

    def _put_together(self, one: TypedAggregate, sums: _Sums) -> TypedExpression:
        """What an aggregate is over the aggregates of cells that it is put together from."""
        argument = one.argument
        of_values = isinstance(argument, ColumnValue) and argument.name in self.values
        if argument is not None and not of_values:
            self._ask(argument)
        match one.function:
            case "count" if argument is None or of_values:
                return _or_nothing(sums.of("sum", _number(COUNT)))
            case "count":
                there = (
                    Present(argument, Presence.IS_NOT_NULL)
                    if argument is not None
                    else ConstantValue(True, FieldType.BOOLEAN)
                )
                counted = Chosen(there, _number(COUNT), ConstantValue(0.0, FieldType.NUMBER), FieldType.NUMBER)
                return _or_nothing(sums.of("sum", counted))
            case "sum" if of_values:
                return sums.of("sum", _number(SUM))
            case "avg" if of_values:
                return Computed(Operation.DIVIDED, sums.of("sum", _number(SUM)), sums.of("sum", _number(COUNT)))
            case "min" if of_values:
                return sums.of("min", _number(LEAST))
            case "max" if of_values:
                return sums.of("max", _number(GREATEST))
            case "min" | "max" | "dc" if argument is not None and not of_values:
                return sums.of(one.function, argument, one.type)
            case _:
                raise _NeedsSamples


@dataclass(slots=True)
class _Sums:
    """The aggregates of cells that are needed, each once."""

    aggregates: list[TypedAggregate] = field(default_factory=list)

    def of(self, function: str, argument: TypedExpression, type_: FieldType = FieldType.NUMBER) -> ColumnValue:
        """The column that holds this one."""
        for one in self.aggregates:
            if (one.function, one.argument) == (function, argument):
                return ColumnValue(one.name, type_)
        name = f"{HIDDEN}{len(self.aggregates)}"
        self.aggregates.append(TypedAggregate(name, function, argument, None, type_))
        return ColumnValue(name, type_)


def _number(name: str) -> ColumnValue:
    return ColumnValue(name, FieldType.NUMBER)


def _or_nothing(value: TypedExpression) -> TypedExpression:
    """A sum that is 0 where nothing was added up."""
    return Applied("coalesce", (value, ConstantValue(0.0, FieldType.NUMBER)), FieldType.NUMBER)


def _refuse_hidden(name: str) -> None:
    if name.startswith(HIDDEN):
        raise _NeedsSamples


def _parts(value: TypedExpression) -> Sequence[TypedExpression]:
    """The expressions that one is made of."""
    match value:
        case Applied(_, arguments):
            return arguments
        case Converted(one) | Compared(_, one) | Matched(one) | Contained(one) | Present(one) | Opposite(one):
            return (one,)
        case Computed(_, left, right):
            return left, right
        case Chosen(condition, then, otherwise):
            return condition, then, otherwise
        case Every(operands) | Some(operands):
            return operands
        case _:
            return ()
