"""Checked expressions computed in Python for one record: the same values as the SQL that the Master compiles."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tenantry.nql.checking_expressions import number_of, text_of_number
from tenantry.nql.fields import FieldType
from tenantry.nql.function_bodies import apply_function
from tenantry.nql.patterns import read_pattern, wildcard_pattern
from tenantry.nql.settings import ISO_FORMAT
from tenantry.nql.time_texts import write_time
from tenantry.nql.times import in_range, read_iso
from tenantry.nql.tree import Operation, Presence, Relation
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
    Matched,
    Opposite,
    PathValue,
    Present,
    Some,
    TypedExpression,
)
from tenantry.nql.zones import Zone

Row: TypeAlias = Mapping[str, Any]
Evaluator: TypeAlias = Callable[[Row], Any]


def json_text(value: object) -> str:
    """A value of JSON as its text, without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def evaluator(expression: TypedExpression, zone: Zone) -> Evaluator:  # noqa: C901 - one case a node
    """A function from a row to the value of the expression; absent is None."""
    match expression:
        case ConstantValue(value):
            return lambda _: value
        case ColumnValue(name):
            return lambda row: row.get(name)
        case EntryValue(column, key):
            return lambda row: (row.get(column) or {}).get(key)
        case PathValue(column, key, path):
            return lambda row: _found(row.get(column), key, path)
        case Converted(operand, type_):
            inner, given = evaluator(operand, zone), operand.type
            return lambda row: convert(inner(row), given, type_, zone)
        case Applied():
            arguments = [evaluator(one, zone) for one in expression.arguments]
            return lambda row: apply_function(expression, [one(row) for one in arguments], zone)
        case Computed():
            left, right = evaluator(expression.left, zone), evaluator(expression.right, zone)
            return lambda row: _compute(expression, left(row), right(row))
        case Chosen(condition, then, otherwise):
            holds, first, second = (evaluator(one, zone) for one in (condition, then, otherwise))
            return lambda row: first(row) if holds(row) else second(row)
        case Compared(relation, operand, right):
            inner, test = evaluator(operand, zone), _comparison(relation, right)
            return lambda row: test(inner(row))
        case Matched(operand, pattern, ignore_case):
            inner, search = evaluator(operand, zone), read_pattern(pattern, ignore_case=ignore_case).search
            return lambda row: (text := inner(row)) is not None and search(text) is not None
        case Contained(operand, values):
            inner, known = evaluator(operand, zone), frozenset(values)
            return lambda row: (value := inner(row)) is not None and value in known
        case Present(operand, presence):
            inner = evaluator(operand, zone)
            return lambda row: _present(inner(row), presence)
        case Opposite(operand):
            inner = evaluator(operand, zone)
            return lambda row: not inner(row)
        case Every(operands):
            tests = [evaluator(one, zone) for one in operands]
            return lambda row: all(test(row) for test in tests)
        case Some(operands):
            tests = [evaluator(one, zone) for one in operands]
            return lambda row: any(test(row) for test in tests)


def _found(document: object, key: str, path: tuple[str, ...]) -> object:
    whole = document.get(key) if isinstance(document, Mapping) else None
    if whole is not None or len(path) == 1:
        return whole
    for one in path:
        document = document.get(one) if isinstance(document, Mapping) else None
    return document


def convert(value: Any, given: FieldType, wanted: FieldType, zone: Zone) -> Any:
    """A value read as another type; None where it does not read as one."""
    if value is None:
        return None
    if given is FieldType.JSON:
        return _from_json(value, wanted, zone)
    match wanted:
        case FieldType.NUMBER:
            return number_of(value) if given is FieldType.TEXT else float(value)
        case FieldType.BOOLEAN:
            return {"true": True, "false": False}.get(value)
        case FieldType.TEXT if given is FieldType.NUMBER:
            return text_of_number(value)
        case FieldType.TEXT if given is FieldType.TIME:
            return write_time(value, ISO_FORMAT, zone)
        case FieldType.TEXT if given is FieldType.BOOLEAN:
            return "true" if value else "false"
        case _:  # a map of texts as JSON
            return dict(value)


def _from_json(value: Any, wanted: FieldType, zone: Zone) -> Any:
    text = value if isinstance(value, str) else json_text(value)
    match wanted:
        case FieldType.TEXT:
            return text
        case FieldType.NUMBER:
            return number_of(text)
        case FieldType.BOOLEAN:
            return {"true": True, "false": False}.get(text)
        case _:
            number = number_of(text)
            if number is not None:
                ms = math.floor(number)
                return ms if in_range(ms) else None
            return read_iso(text, zone)


def _compute(expression: Computed, left: Any, right: Any) -> float | int | None:
    if left is None or right is None:
        return None
    if expression.type is FieldType.TIME:
        moved = float(left) + (right if expression.operation is Operation.PLUS else -right)
        return math.floor(moved) if math.isfinite(moved) and in_range(math.floor(moved)) else None
    if expression.operation in {Operation.DIVIDED, Operation.REMAINDER} and not right:
        return None
    match expression.operation:
        case Operation.PLUS:
            result = left + right
        case Operation.MINUS:
            result = float(left - right)
        case Operation.TIMES:
            result = left * right
        case Operation.DIVIDED:
            result = left / right
        case _:
            result = math.fmod(left, right)
    return result if math.isfinite(result) else None


def _comparison(relation: Relation, right: Any) -> Callable[[Any], bool]:
    match relation:
        case Relation.EQUAL:
            return lambda left: left is not None and left == right
        case Relation.UNEQUAL:
            return lambda left: left is None or left != right
        case Relation.GREATER:
            return lambda left: left is not None and left > right
        case Relation.GREATER_OR_EQUAL:
            return lambda left: left is not None and left >= right
        case Relation.LESS:
            return lambda left: left is not None and left < right
        case Relation.LESS_OR_EQUAL:
            return lambda left: left is not None and left <= right
        case Relation.CONTAINS:
            return lambda left: left is not None and right in left
        case Relation.STARTS_WITH:
            return lambda left: left is not None and left.startswith(right)
        case Relation.ENDS_WITH:
            return lambda left: left is not None and left.endswith(right)
        case Relation.LIKE:
            pattern = wildcard_pattern(right)
            return lambda left: left is not None and pattern.fullmatch(left) is not None


def _present(value: Any, presence: Presence) -> bool:
    match presence:
        case Presence.IS_NULL:
            return value is None
        case Presence.IS_NOT_NULL:
            return value is not None
        case Presence.IS_EMPTY | Presence.IS_NOT_EMPTY:
            empty = value is None or (isinstance(value, str | list | Mapping) and not value)
            return empty == (presence is Presence.IS_EMPTY)
