"""A query as a tree: what was written, with names not yet looked up and types not yet known.

Every node is frozen and compares by what it says; where it stood in the text (``at``) serves messages only. Times that were
written relative to the present moment are already moments.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Position:
    """Where something begins in the text: ``line`` and ``column`` count from 1."""

    line: int
    column: int


NOWHERE = Position(1, 1)


@dataclass(frozen=True, slots=True)
class _Placed:
    at: Position = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


# ---- expressions


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, Unix milliseconds."""

    ms: int


@dataclass(frozen=True, slots=True)
class Constant(_Placed):
    """A value that was written out. ``None`` is the absent value."""

    value: bool | float | str | Moment | None


@dataclass(frozen=True, slots=True)
class Pattern(_Placed):
    """A regular expression of RE2, found anywhere in a text."""

    text: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Field(_Placed):
    """A field by its name; what the dots mean is decided by the schema."""

    name: str


@dataclass(frozen=True, slots=True)
class Call(_Placed):
    """A function of the catalogue, by its canonical name, applied to arguments."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Negative(_Placed):
    """Minus something that is no constant."""

    operand: Expression


class Operation(enum.Enum):
    """What is done with two numbers."""

    PLUS = "+"
    MINUS = "-"
    TIMES = "*"
    DIVIDED = "/"
    REMAINDER = "%"


@dataclass(frozen=True, slots=True)
class Arithmetic(_Placed):
    """Two operands and what is done with them."""

    operation: Operation
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Choice(_Placed):
    """``if(condition : then, otherwise)``."""

    condition: Expression
    then: Expression
    otherwise: Expression


# ---- conditions


class Relation(enum.Enum):
    """How a value is compared with a constant."""

    EQUAL = "="
    UNEQUAL = "!="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    LIKE = "~="
    CONTAINS = "contains"
    STARTS_WITH = "startsWith"
    ENDS_WITH = "endsWith"


class Presence(enum.Enum):
    """Whether there is a value at all."""

    IS_NULL = "isNull"
    IS_NOT_NULL = "isNotNull"
    IS_EMPTY = "isEmpty"
    IS_NOT_EMPTY = "isNotEmpty"


@dataclass(frozen=True, slots=True)
class Comparison(_Placed):
    """A value beside a constant, or beside a pattern (with ``=`` and ``!=`` only)."""

    relation: Relation
    left: Expression
    right: Constant | Pattern


@dataclass(frozen=True, slots=True)
class Membership(_Placed):
    """``in`` or, ``negated``, ``notIn`` a list of constants."""

    left: Expression
    constants: tuple[Constant, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class PresenceTest(_Placed):
    """Whether something is absent, or absent or empty."""

    left: Expression
    presence: Presence


@dataclass(frozen=True, slots=True)
class Not(_Placed):
    """The exact opposite of a condition."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class And(_Placed):
    """Two or more conditions that all hold."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or(_Placed):
    """Two or more conditions of which one holds."""

    operands: tuple[Expression, ...]


Expression: TypeAlias = (
    Constant | Field | Call | Negative | Arithmetic | Choice | Comparison | Membership | PresenceTest | Not | And | Or
)


# ---- commands


class Unit(enum.Enum):
    """Units of durations. Days and longer are of the calendar."""

    MILLISECOND = "ms"
    SECOND = "s"
    MINUTE = "m"
    HOUR = "h"
    DAY = "d"
    WEEK = "w"
    MONTH = "M"
    YEAR = "y"


@dataclass(frozen=True, slots=True)
class Interval:
    """A positive whole number of one unit."""

    count: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Aggregate(_Placed):
    """One aggregate of a command. ``argument`` is None for ``count()``; ``option`` is the k of ``prc``, the separator of ``join``."""

    name: str
    function: str
    argument: Expression | None = None
    option: float | str | None = None


@dataclass(frozen=True, slots=True)
class Group(_Placed):
    """What rows are grouped by, and how its column is called."""

    name: str
    value: Expression


class Sign(enum.Enum):
    """Whether ``project`` keeps only this field, adds it to all others, or takes it away."""

    ONLY = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class Projected(_Placed):
    """A field of ``project``; ``alias`` is None where it keeps its name."""

    field: str
    sign: Sign = Sign.ONLY
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Assignment(_Placed):
    """A column and how it is computed."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class SortKey(_Placed):
    """A field that rows are ordered by."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """``low`` <= value < ``high``; None is open. ``label`` is what was written."""

    low: float | None
    high: float | None
    label: str


@dataclass(frozen=True, slots=True)
class Where(_Placed):
    """Keeps the rows for which the condition holds."""

    condition: Expression


@dataclass(frozen=True, slots=True)
class Project(_Placed):
    """Chooses and renames columns."""

    items: tuple[Projected, ...]


@dataclass(frozen=True, slots=True)
class Set(_Placed):
    """Computes columns, new ones (``adds``: only new ones) or in the place of those with the same name."""

    assignments: tuple[Assignment, ...]
    adds: bool = False


@dataclass(frozen=True, slots=True)
class Sort(_Placed):
    """Orders the rows; ties keep the order that they had."""

    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Limit(_Placed):
    """The first ``count`` rows behind the first ``offset``."""

    count: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Tail(_Placed):
    """The last ``count`` rows, in the order that they had."""

    count: int


@dataclass(frozen=True, slots=True)
class Top(_Placed):
    """The ``limit`` values of ``fields`` with the greatest (``rare``: the smallest) measure, in each group."""

    fields: tuple[Field, ...]
    groups: tuple[Group, ...] = ()
    measure: Aggregate = Aggregate("count", "count")
    limit: int = 10
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Aggr(_Placed):
    """One row for each group, or one row."""

    aggregates: tuple[Aggregate, ...]
    groups: tuple[Group, ...] = ()
    unwind: Field | None = None


@dataclass(frozen=True, slots=True)
class TimeAggr(_Placed):
    """One row for each bucket of time and group. ``on`` and ``alias`` None: the stream's time."""

    aggregates: tuple[Aggregate, ...]
    interval: Interval
    groups: tuple[Group, ...] = ()
    on: Field | None = None
    alias: str | None = None
    unwind: Field | None = None


@dataclass(frozen=True, slots=True)
class RangeAggr(_Placed):
    """One row for each range of a number and group."""

    aggregates: tuple[Aggregate, ...]
    on: Field
    ranges: tuple[Range, ...]
    groups: tuple[Group, ...] = ()
    alias: str = "range"
    unwind: Field | None = None


@dataclass(frozen=True, slots=True)
class Fields(_Placed):
    """One row for each column: its name, its type, how many rows have it."""


@dataclass(frozen=True, slots=True)
class Records(_Placed):
    """Each row as one JSON object."""


@dataclass(frozen=True, slots=True)
class Unwind(_Placed):
    """One row for each element of a list."""

    field: Field
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Branch(_Placed):
    """One of the results of ``fork``."""

    name: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Fork(_Placed):
    """Several results from the same rows; always the last command."""

    branches: tuple[Branch, ...]


Command: TypeAlias = (
    Where | Project | Set | Sort | Limit | Tail | Top | Aggr | TimeAggr | RangeAggr | Fields | Records | Unwind | Fork
)


@dataclass(frozen=True, slots=True)
class Source(_Placed):
    """Which stream, from ``start_ms`` (inclusive) to ``end_ms`` (exclusive) of event time; None is open."""

    stream: str
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query, with the present moment and the time zone that it was read with."""

    source: Source
    commands: tuple[Command, ...]
    now_ms: int
    time_zone: str = "UTC"
    text: str = field(default="", compare=False, repr=False)
