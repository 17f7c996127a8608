"""Queries over one record at a time: conditions, and the commands that need to know no other record.

What is computed here is what the SQL of the Master computes; a property test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantry.nql.checking import check_query
from tenantry.nql.checking_expressions import ExpressionChecker
from tenantry.nql.evaluating import Evaluator, Row, evaluator
from tenantry.nql.fields import Column, FieldType, Schema
from tenantry.nql.scope import Scope
from tenantry.nql.tree import Command, Expression, Project, Query, Records, Set, Unwind, Where
from tenantry.nql.typed import ColumnValue, ElementStep, KeepStep, RecordsStep, SelectStep, Step
from tenantry.nql.zones import Zone, zone_named

_STATELESS = (Where, Project, Set, Records, Unwind)


def stateless_commands(commands: Sequence[Command]) -> int:
    """How many of the first commands need to know one record only."""
    return next((index for index, one in enumerate(commands) if not isinstance(one, _STATELESS)), len(commands))


def record_matcher(
    condition: Expression, schema: Schema, *, now_ms: int, time_zone: str = "UTC", text: str = ""
) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a condition holds for a record, as a function. Raises QueryInvalid, FieldInvalid for an unknown time zone.

    A record maps names of the schema's columns to values as ``FieldType`` describes them; a name that is missing is absent.
    ``text``: what the condition was read from, for messages.
    """
    zone = zone_named(time_zone)
    checked = ExpressionChecker(text=text, now_ms=now_ms, zone=zone).condition(condition, Scope.of_schema(schema))
    holds = evaluator(checked, zone)
    return lambda record: bool(holds(record))


def record_value(
    expression: Expression, schema: Schema, *, now_ms: int = 0, time_zone: str = "UTC", text: str = ""
) -> Callable[[Mapping[str, Any]], Any]:
    """The value that an expression, such as the name of a field, has for a record. Raises as ``record_matcher`` does."""
    zone = zone_named(time_zone)
    checked = ExpressionChecker(text=text, now_ms=now_ms, zone=zone).value(expression, Scope.of_schema(schema))
    return evaluator(checked, zone)


@dataclass(frozen=True, slots=True)
class RecordPipe:
    """The first, stateless commands of a query. ``rest`` is how many commands come behind them."""

    columns: tuple[Column, ...]
    rest: int
    _parts: tuple[Callable[[Iterator[Row]], Iterator[Row]], ...]

    def rows(self, record: Mapping[str, Any]) -> list[Row]:
        """What one record becomes: no row, one, or with ``unwind`` several."""
        rows: Iterator[Row] = iter((record,))
        for part in self._parts:
            rows = part(rows)
        return [{one.name: row.get(one.name) for one in self.columns} for row in rows]


def record_pipe(query: Query, schema: Schema) -> RecordPipe:
    """The stateless beginning of a query, ready to be fed with records of its stream within its times. Raises QueryInvalid."""
    zone = zone_named(query.time_zone)
    count = stateless_commands(query.commands)
    first = Query(query.source, query.commands[:count], query.now_ms, query.time_zone, query.text)
    (result,) = check_query(first, schema).results
    begin = _within(query, schema)
    return RecordPipe(
        result.columns, len(query.commands) - count, (begin, *(_part(step, zone) for step in result.steps))
    )


def _within(query: Query, schema: Schema) -> Callable[[Iterator[Row]], Iterator[Row]]:
    start, end = query.source.start_ms, query.source.end_ms

    def keep(rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            moment = row[schema.time]
            if (start is None or moment >= start) and (end is None or moment < end):
                yield row

    return keep


def _part(step: Step, zone: Zone) -> Callable[[Iterator[Row]], Iterator[Row]]:
    match step:
        case KeepStep(condition):
            holds = evaluator(condition, zone)
            return lambda rows: (row for row in rows if holds(row))
        case SelectStep(values):
            named = [(one.name, evaluator(one.value, zone)) for one in values]
            return lambda rows: ({name: value(row) for name, value in named} for row in rows)
        case ElementStep(value, name):
            return _unwound(evaluator(value, zone), value.type, name)
        case RecordsStep(described):
            names = [(one.name, evaluator(ColumnValue(one.name, one.type), zone)) for one in described]
            return lambda rows: ({"record": {name: value(row) for name, value in names}} for row in rows)
        case _:
            raise AssertionError(f"{type(step).__name__} needs more than one record")


def _unwound(value: Evaluator, type_: FieldType, name: str) -> Callable[[Iterator[Row]], Iterator[Row]]:
    def unwind(rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            found = value(row)
            if type_ is FieldType.TEXTS:
                elements: list[Any] = [{"key": key, "value": text} for key, text in (found or {}).items()]
            elif found is None:
                elements = []
            else:
                elements = found if isinstance(found, list) else [found]
            for element in elements:
                yield {**row, name: element}

    return unwind
