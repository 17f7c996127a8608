"""Conditions and values of one record at a time, as functions.

What is computed here is what the SQL of the Master computes; a property test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tenantry.nql.checking_expressions import ExpressionChecker
from tenantry.nql.evaluating import evaluator
from tenantry.nql.fields import Schema
from tenantry.nql.scope import Scope
from tenantry.nql.tree import Expression
from tenantry.nql.zones import zone_named


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
