"""Expressions and commands whose names are looked up and whose types are known: what is computed, without any choice left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from tenantry.nql.fields import Column, FieldType
from tenantry.nql.tree import Operation, Presence, Range, Relation

Value: TypeAlias = bool | float | int | str | None  # a TIME is an int of milliseconds, a NUMBER a float


@dataclass(frozen=True, slots=True)
class ConstantValue:
    """A constant; None is absent."""

    value: Value
    type: FieldType


@dataclass(frozen=True, slots=True)
class ColumnValue:
    """A column of the rows as they are at this place of the pipe."""

    name: str
    type: FieldType


@dataclass(frozen=True, slots=True)
class EntryValue:
    """The text under a key of a column of TEXTS."""

    column: str
    key: str
    type: FieldType = FieldType.TEXT


@dataclass(frozen=True, slots=True)
class PathValue:
    """What stands in a JSON column under the whole ``key``, else along ``path`` from object to object."""

    column: str
    key: str
    path: tuple[str, ...]
    type: FieldType = FieldType.JSON


@dataclass(frozen=True, slots=True)
class Converted:
    """A value read as another type; absent where it does not read as one."""

    operand: TypedExpression
    type: FieldType


@dataclass(frozen=True, slots=True)
class Applied:
    """A function applied. Constant arguments that steer it lie in ``settings``: an Interval, a format, a pattern, subnets."""

    function: str
    arguments: tuple[TypedExpression, ...]
    type: FieldType
    settings: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """Numbers put together; or a TIME and a number, or two TIMEs."""

    operation: Operation
    left: TypedExpression
    right: TypedExpression
    type: FieldType = FieldType.NUMBER


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of two values by a condition."""

    condition: TypedExpression
    then: TypedExpression
    otherwise: TypedExpression
    type: FieldType


@dataclass(frozen=True, slots=True)
class Compared:
    """A value beside a constant of the same type; false where the value is absent, with UNEQUAL true."""

    relation: Relation
    left: TypedExpression
    right: Value
    type: FieldType = FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Matched:
    """Whether a regular expression is found in a text."""

    left: TypedExpression
    pattern: str
    ignore_case: bool
    type: FieldType = FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Contained:
    """Whether a value is one of constants of the same type."""

    left: TypedExpression
    values: tuple[Value, ...]
    type: FieldType = FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Present:
    """Whether a value is there, or there and not empty."""

    left: TypedExpression
    presence: Presence
    type: FieldType = FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Opposite:
    """True where the operand is not."""

    operand: TypedExpression
    type: FieldType = FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Every:
    """True where all operands are."""

    operands: tuple[TypedExpression, ...]
    type: FieldType = FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Some:
    """True where one operand is."""

    operands: tuple[TypedExpression, ...]
    type: FieldType = FieldType.BOOLEAN


Condition: TypeAlias = Compared | Matched | Contained | Present | Opposite | Every | Some
TypedExpression: TypeAlias = (
    ConstantValue
    | ColumnValue
    | EntryValue
    | PathValue
    | Converted
    | Applied
    | Computed
    | Chosen
    | Compared
    | Matched
    | Contained
    | Present
    | Opposite
    | Every
    | Some
)


# ---- steps: commands over typed rows; ``columns`` are those behind the step


@dataclass(frozen=True, slots=True)
class NamedValue:
    """A column and what it holds."""

    name: str
    value: TypedExpression


@dataclass(frozen=True, slots=True)
class KeepStep:
    """Keeps the rows for which a condition holds."""

    condition: TypedExpression
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class SelectStep:
    """Each row becomes these values."""

    values: tuple[NamedValue, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class OrderStep:
    """Orders by values (True: descending), then as before. Absent values come last either way."""

    keys: tuple[tuple[TypedExpression, bool], ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class SliceStep:
    """``count`` rows behind ``offset``; ``from_end``: the last ones."""

    count: int
    offset: int
    from_end: bool
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class TypedAggregate:
    """An aggregate of an argument; None counts rows."""

    name: str
    function: str
    argument: TypedExpression | None
    option: float | str | None
    type: FieldType


@dataclass(frozen=True, slots=True)
class ElementStep:
    """One row for each element of a list, in ``name``: the column takes the place of one with that name, or is the last."""

    value: TypedExpression
    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One row for each group (without keys: one row), ordered by the keys.

    ``dropped``: keys whose absence leaves a row out (a bucket of time). ``ranged``: the first column is one of ``ranges`` that
    the number lies in; a row counts in each of them.
    """

    keys: tuple[NamedValue, ...]
    aggregates: tuple[TypedAggregate, ...]
    columns: tuple[Column, ...]
    dropped: frozenset[str] = frozenset()
    ranged: TypedExpression | None = None
    range_name: str = ""
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class FrequentStep:
    """In each group the ``limit`` combinations of values with the greatest (``rare``: smallest) measure."""

    groups: tuple[NamedValue, ...]
    fields: tuple[NamedValue, ...]
    measure: TypedAggregate
    limit: int
    rare: bool
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class FieldsStep:
    """One row for each column of ``described``."""

    described: tuple[Column, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class RecordsStep:
    """Each row as one JSON object of ``described``."""

    described: tuple[Column, ...]
    columns: tuple[Column, ...]


Step: TypeAlias = (
    KeepStep | SelectStep | OrderStep | SliceStep | ElementStep | GroupStep | FrequentStep | FieldsStep | RecordsStep
)


@dataclass(frozen=True, slots=True)
class TypedResult:
    """One result of a query: its name (empty unless it is a branch of ``fork``), its steps and its columns."""

    name: str
    steps: tuple[Step, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class TypedQuery:
    """A checked query: what every result begins with, and the results."""

    results: tuple[TypedResult, ...] = field(default_factory=tuple)
