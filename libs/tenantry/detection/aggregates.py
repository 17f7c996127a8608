"""Aggregates over the records of a window, kept in parts that can be put together.

A part holds what a stretch of time contributes; the value over several stretches is made of their parts alone, so a window that
moves on costs its parts and not its records. Values are numbers, or texts where an aggregate only tells them apart; None says nothing
and is not counted, except by `Function.COUNT` without a field, which counts records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from tenantry.protocol.failures import FieldInvalid

Value = float | str | bool | None

MAX_KEPT: Final = 10_000
"""So many values one window keeps for `Function.DC` and `Function.PRC`, which need them one by one."""


class Function(StrEnum):
    """What is made of the values of a window."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    DC = "dc"
    """How many different values."""
    PRC = "prc"
    """The percentile ``k``, between two values on the straight line between them, as in NQL."""


class WindowFull(Exception):
    """More values than one window may keep."""


class Summary(NamedTuple):
    """What a stretch holds whose every record has a number: what each part but DC's and PRC's can be made of, and tells of."""

    counted: int
    total: float
    low: float
    high: float
    first: tuple[int, float]
    last: tuple[int, float]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A named value of a window: ``function`` of the values of ``field``. Raises FieldInvalid.

    ``field`` may be empty for COUNT alone; ``percentile`` (above 0, up to 100) is PRC's.
    """

    name: str
    function: Function
    field: str = ""
    percentile: float = 95.0

    def __post_init__(self) -> None:
        if not self.field and self.function is not Function.COUNT:
            raise FieldInvalid(field="values", problem=f"has no field for {self.function}", expected="a field")
        if not 0 < self.percentile <= 100:
            raise FieldInvalid(
                field="values.percentile", problem=f"is {self.percentile:g}", expected="above 0, up to 100"
            )

    def part(self) -> Part:
        """A part that holds nothing yet."""
        return _PARTS[self.function]()

    @property
    def summed_up(self) -> bool:
        """Whether its parts can be made of a `Summary`."""
        return self.function in _SUMMED

    def part_of(self, summary: Summary) -> Part:
        """The part that has seen what ``summary`` says; of an aggregate that can be `summed_up`."""
        part = _SUMMED[self.function]()
        part.recall(summary)
        return part

    def value(self, parts: Sequence[Part]) -> float | None:
        """The value of a window, of the parts of its stretches in their order; None where nothing says anything.

        A value that is too large for a number says nothing either. Raises WindowFull.
        """
        if not parts:
            return _EMPTY.get(self.function)
        try:
            value = type(parts[0]).together(parts, self)
        except (OverflowError, ValueError):  # of `math.fsum`
            return None
        return value if value is None or math.isfinite(value) else None


class Part(Protocol):
    """What one stretch of time contributes to an aggregate."""

    def add(self, timestamp_ms: int, value: Value) -> None:
        """Count in one value. Raises WindowFull."""

    @classmethod
    def together(cls, parts: Sequence[Any], aggregate: Aggregate) -> float | None:
        """The value over several stretches, in the order of time. Raises WindowFull."""


class SummedPart(Part, Protocol):
    """A part that a `Summary` says everything of."""

    def recall(self, summary: Summary) -> None:
        """Hold what ``summary`` says."""

    def tell(self) -> dict[str, Any]:
        """What it knows of a `Summary`, by the names of the fields; None: nothing."""


_EMPTY: Final = {Function.COUNT: 0.0, Function.SUM: 0.0, Function.DC: 0.0}
"""What a window without any record has; the others have nothing."""


class _Count:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self, timestamp_ms: int, value: Value) -> None:  # noqa: ARG002 - one signature for all
        self.count += 1

    def recall(self, summary: Summary) -> None:
        self.count = summary.counted

    def tell(self) -> dict[str, Any]:
        return {"counted": self.count}

    @classmethod
    def together(cls, parts: Sequence[_Count], aggregate: Aggregate) -> float | None:  # noqa: ARG003
        return float(sum(part.count for part in parts))


class _Sum:
    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0

    def add(self, timestamp_ms: int, value: Value) -> None:  # noqa: ARG002
        if isinstance(value, (int, float)):
            self.count += 1
            self.total += value

    def recall(self, summary: Summary) -> None:
        self.count, self.total = summary.counted, summary.total

    def tell(self) -> dict[str, Any]:
        return {"counted": self.count, "total": self.total}

    @classmethod
    def together(cls, parts: Sequence[_Sum], aggregate: Aggregate) -> float | None:
        total = math.fsum(part.total for part in parts)
        if aggregate.function is Function.SUM:
            return total
        count = sum(part.count for part in parts)
        return total / count if count else None


class _Extreme:
    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def add(self, timestamp_ms: int, value: Value) -> None:  # noqa: ARG002
        if isinstance(value, (int, float)):
            self.low, self.high = min(self.low, value), max(self.high, value)

    def recall(self, summary: Summary) -> None:
        self.low, self.high = summary.low, summary.high

    def tell(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    @classmethod
    def together(cls, parts: Sequence[_Extreme], aggregate: Aggregate) -> float | None:
        low, high = min(part.low for part in parts), max(part.high for part in parts)
        if low > high:
            return None
        return low if aggregate.function is Function.MIN else high


class _Ends:
    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first: tuple[int, float] | None = None
        self.last: tuple[int, float] | None = None

    def add(self, timestamp_ms: int, value: Value) -> None:
        if not isinstance(value, (int, float)):
            return
        if self.first is None or timestamp_ms < self.first[0]:
            self.first = timestamp_ms, value
        if self.last is None or timestamp_ms >= self.last[0]:
            self.last = timestamp_ms, value

    def recall(self, summary: Summary) -> None:
        self.first, self.last = summary.first, summary.last

    def tell(self) -> dict[str, Any]:
        return {"first": self.first, "last": self.last}

    @classmethod
    def together(cls, parts: Sequence[_Ends], aggregate: Aggregate) -> float | None:
        if aggregate.function is Function.FIRST:
            return next((part.first[1] for part in parts if part.first is not None), None)
        return next((part.last[1] for part in reversed(parts) if part.last is not None), None)


class _Distinct:
    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: set[Value] = set()

    def add(self, timestamp_ms: int, value: Value) -> None:  # noqa: ARG002
        if value is not None:
            self.values.add(value)
            if len(self.values) > MAX_KEPT:
                raise WindowFull

    @classmethod
    def together(cls, parts: Sequence[_Distinct], aggregate: Aggregate) -> float | None:  # noqa: ARG003
        found: set[Value] = set().union(*(part.values for part in parts))
        if len(found) > MAX_KEPT:
            raise WindowFull
        return float(len(found))


class _Percentile:
    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[float] = []

    def add(self, timestamp_ms: int, value: Value) -> None:  # noqa: ARG002
        if isinstance(value, (int, float)):
            self.values.append(value)
            if len(self.values) > MAX_KEPT:
                raise WindowFull

    @classmethod
    def together(cls, parts: Sequence[_Percentile], aggregate: Aggregate) -> float | None:
        found = sorted(value for part in parts for value in part.values)
        if len(found) > MAX_KEPT:
            raise WindowFull
        if not found:
            return None
        place = aggregate.percentile / 100 * (len(found) - 1)
        low = math.floor(place)
        high = min(low + 1, len(found) - 1)
        return found[low] + (found[high] - found[low]) * (place - low)


_SUMMED: Final[dict[Function, type[SummedPart]]] = {
    Function.COUNT: _Count,
    Function.SUM: _Sum,
    Function.AVG: _Sum,
    Function.MIN: _Extreme,
    Function.MAX: _Extreme,
    Function.FIRST: _Ends,
    Function.LAST: _Ends,
}
_PARTS: Final[dict[Function, type[Part]]] = {**_SUMMED, Function.DC: _Distinct, Function.PRC: _Percentile}
_NOTHING: Final = Summary(1, 0.0, 0.0, 0.0, (0, 0.0), (0, 0.0))


def summary_of(parts: Sequence[Part]) -> Summary | None:
    """What the parts of one stretch, one of each aggregate, have seen together; None where a `Summary` does not say all of it."""
    known: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, (_Count, _Sum, _Extreme, _Ends)):
            return None
        for name, seen in part.tell().items():
            if seen is None or known.setdefault(name, seen) != seen:
                return None
    summary = _NOTHING._replace(**known)
    return summary if summary.counted and summary.low <= summary.high else None
