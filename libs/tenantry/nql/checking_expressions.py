"""Gives expressions their types: looks names up, reads constants as what they are compared with, refuses what makes no sense."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NoReturn

from tenantry.nql.fields import FieldType
from tenantry.nql.functions import FUNCTIONS, Function
from tenantry.nql.refusing import refusal
from tenantry.nql.scope import Scope
from tenantry.nql.settings import SettingWrong, read_settings
from tenantry.nql.times import TimeUnreadable, in_range, read_time
from tenantry.nql.tree import (
    And,
    Arithmetic,
    Call,
    Choice,
    Comparison,
    Constant,
    Expression,
    Field,
    Membership,
    Moment,
    Negative,
    Not,
    Operation,
    Or,
    Pattern,
    Position,
    PresenceTest,
    Relation,
)
from tenantry.nql.typed import (
    Applied,
    Chosen,
    Compared,
    Computed,
    ConstantValue,
    Contained,
    Converted,
    Every,
    Matched,
    Opposite,
    Present,
    Some,
    TypedExpression,
    Value,
)
from tenantry.nql.zones import Zone
from tenantry.protocol.failures import QueryInvalid

TIME, TEXT, NUMBER, BOOLEAN, TEXTS, JSON = FieldType

_TEXTUAL = frozenset({Relation.CONTAINS, Relation.STARTS_WITH, Relation.ENDS_WITH, Relation.LIKE})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def number_of(text: str) -> float | None:
    """The finite number that a text reads as; None where it does not."""
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


class ExpressionChecker:
    """Checks expressions of one text, read at one moment in one zone."""

    def __init__(self, *, text: str, now_ms: int, zone: Zone) -> None:
        self.text = text
        self._now_ms = now_ms
        self._zone = zone

    def refusal(self, at: Position, problem: str, expected: str) -> QueryInvalid:
        """The QueryInvalid that points at a place."""
        return refusal(self.text, at, problem, expected)

    def refuse(self, at: Position, problem: str, expected: str) -> NoReturn:
        """Raises it."""
        raise refusal(self.text, at, problem, expected)

    # ---- values

    def value(self, expression: Expression, scope: Scope) -> TypedExpression:
        """Any expression. Raises QueryInvalid."""
        match expression:
            case Constant(value):
                return _constant(value)
            case Field(name):
                return scope.find(name, self.text, expression.at)
            case Call():
                return self._call(expression, scope)
            case Negative(operand):
                number = self.as_type(self.value(operand, scope), NUMBER, operand.at)
                return Computed(Operation.MINUS, ConstantValue(0.0, NUMBER), number)
            case Arithmetic():
                return self._arithmetic(expression, scope)
            case Choice(condition, then, otherwise):
                checked = self.condition(condition, scope)
                first, second = self._alike(
                    [self.value(then, scope), self.value(otherwise, scope)], [then.at, otherwise.at]
                )
                return Chosen(checked, first, second, first.type)
            case Comparison() | Membership() | PresenceTest() | Not() | And() | Or():
                return self.condition(expression, scope)

    def grouped(self, expression: Expression, scope: Scope) -> TypedExpression:
        """A value that can be compared as a whole: a map of texts becomes JSON."""
        value = self.value(expression, scope)
        return Converted(value, JSON) if value.type is TEXTS else value

    def as_type(self, value: TypedExpression, wanted: FieldType, at: Position) -> TypedExpression:
        """A value where a type is wanted. JSON is read as it, text takes any single value. Raises QueryInvalid."""
        if value.type is wanted:
            return value
        if isinstance(value, ConstantValue):
            if value.value is None:
                return ConstantValue(None, wanted)
            if wanted is TIME or (wanted is TEXT and value.type is not TIME):
                return ConstantValue(self._constant_as(value, wanted, at), wanted)
        if value.type is JSON and wanted is not TEXTS:
            return Converted(value, wanted)
        if wanted is TEXT and value.type in {NUMBER, BOOLEAN, TIME}:
            return Converted(value, TEXT)
        hints = {
            (TEXT, NUMBER): "Expected a number; toNumber() reads texts.",
            (TEXT, TIME): "Expected a time; tsParse() reads texts.",
            (NUMBER, TIME): "Expected a time; toTime() takes epoch milliseconds.",
            (TIME, NUMBER): "Expected a number; toNumber() gives epoch milliseconds.",
        }
        if value.type is TEXTS:
            self.refuse(
                at, "a map of texts where one value is needed", "Expected one of its entries, such as labels.key."
            )
        raise self.refusal(
            at,
            f"{_article(value.type)} where {_article(wanted)} is needed",
            hints.get((value.type, wanted), f"Expected {_article(wanted)}."),
        )

    def _arithmetic(self, expression: Arithmetic, scope: Scope) -> TypedExpression:
        left, right = self.value(expression.left, scope), self.value(expression.right, scope)
        operation = expression.operation
        if TIME in {left.type, right.type}:
            if operation is Operation.MINUS and left.type is right.type:
                return Computed(operation, left, right, NUMBER)
            if operation is Operation.PLUS and right.type is TIME:
                left, right = right, left
            if operation in {Operation.PLUS, Operation.MINUS} and left.type is TIME:
                return Computed(operation, left, self.as_type(right, NUMBER, expression.right.at), TIME)
            self.refuse(
                expression.at, f"a time with {operation.value}", "Expected time - time, time + ms or time - ms."
            )
        if operation is Operation.PLUS and left.type is right.type is TEXT:
            self.refuse(expression.at, "a sum of texts", "Expected numbers; concat() puts texts together.")
        first = self.as_type(left, NUMBER, expression.left.at)
        return Computed(operation, first, self.as_type(right, NUMBER, expression.right.at))

    def _alike(self, values: Sequence[TypedExpression], places: Sequence[Position]) -> list[TypedExpression]:
        """Values of one type. JSON gives way to any other type, absent constants to all."""
        types = [one.type for one in values if not (isinstance(one, ConstantValue) and one.value is None)]
        wanted = next((one for one in types if one is not JSON), types[0] if types else TEXT)
        result = []
        for value, at in zip(values, places, strict=True):
            if value.type not in {wanted, JSON} and not (isinstance(value, ConstantValue) and value.value is None):
                self.refuse(
                    at,
                    f"{_article(value.type)} beside {_article(wanted)}",
                    "Expected values of one type; toText() gives texts.",
                )
            result.append(self.as_type(value, wanted, at))
        return result

    def _call(self, call: Call, scope: Scope) -> TypedExpression:
        function = FUNCTIONS.get(call.function)
        if function is None:
            self.refuse(call.at, f"{call.function}() inside of an expression", "Expected it as a column of `aggr`.")
        given = len(call.arguments)
        if given < function.required or (given > len(function.arguments) and not function.repeats):
            self.refuse(call.at, f"{function.name}() with {given} arguments", f"Expected {_signature(function)}.")
        values = [self.value(one, scope) for one in call.arguments]
        places = [one.at for one in call.arguments]
        if function.name == "coalesce":
            alike = self._alike(values, places)
            return Applied(function.name, tuple(alike), alike[0].type)
        if function.name in {"toText", "toNumber"}:
            return self._converted(values[0], TEXT if function.name == "toText" else NUMBER, places[0])
        checked = []
        for index, (value, at) in enumerate(zip(values, places, strict=True)):
            wanted = function.arguments[min(index, len(function.arguments) - 1)]
            assert wanted is not None  # noqa: S101 - only the functions above take any type
            one = self.as_type(value, wanted, at)
            if min(index, len(function.arguments) - 1) in function.constant and not isinstance(one, ConstantValue):
                self.refuse(
                    at,
                    f"{function.name}() with a field where a constant is needed",
                    f"Expected {_signature(function)}.",
                )
            checked.append(one)
        try:
            name, arguments, settings = read_settings(function.name, checked)
        except SettingWrong as problem:
            self.refuse(places[min(problem.argument, given - 1)] if places else call.at, str(problem), problem.expected)
        assert function.result is not None  # noqa: S101 - coalesce is above
        return Applied(name, arguments, function.result, settings)

    def _converted(self, value: TypedExpression, wanted: FieldType, at: Position) -> TypedExpression:
        if value.type is wanted:
            return value
        if value.type is TEXTS:
            return Converted(Converted(value, JSON), wanted)
        if wanted is NUMBER and value.type is BOOLEAN:
            self.refuse(at, "a condition where a number is needed", "Expected if(condition : 1, 0).")
        return Converted(value, wanted)

    # ---- conditions

    def condition(self, expression: Expression, scope: Scope) -> TypedExpression:
        """An expression that is true or false. Raises QueryInvalid."""
        match expression:
            case Comparison():
                return self._comparison(expression, scope)
            case Membership():
                return self._membership(expression, scope)
            case PresenceTest(left, presence):
                return Present(self.value(left, scope), presence)
            case Not(operand):
                return Opposite(self.condition(operand, scope))
            case And(operands):
                return Every(tuple(self.condition(one, scope) for one in operands))
            case Or(operands):
                return Some(tuple(self.condition(one, scope) for one in operands))
            case _:
                value = self.value(expression, scope)
                if value.type is BOOLEAN:
                    return value
                raise self.refusal(
                    expression.at,
                    f"{_article(value.type)} where a condition is needed",
                    "Expected a comparison, such as field = 1.",
                )

    def _comparison(self, comparison: Comparison, scope: Scope) -> TypedExpression:
        left = self.value(comparison.left, scope)
        right = comparison.right
        if isinstance(right, Pattern):
            matched = Matched(self._as_text(left, comparison.left.at), right.text, right.ignore_case)
            return Opposite(matched) if comparison.relation is Relation.UNEQUAL else matched
        if comparison.relation in _TEXTUAL:
            if not isinstance(right.value, str):
                self.refuse(right.at, f"{comparison.relation.value} without a text", "Expected a text in quotes.")
            return Compared(comparison.relation, self._as_text(left, comparison.left.at), right.value)
        value, constant = self._beside(left, right, comparison.left.at)
        if value.type is BOOLEAN and comparison.relation not in {Relation.EQUAL, Relation.UNEQUAL}:
            self.refuse(comparison.at, f"true and false with {comparison.relation.value}", "Expected = or !=.")
        return Compared(comparison.relation, value, constant)

    def _as_text(self, value: TypedExpression, at: Position) -> TypedExpression:
        if value.type is TIME:
            self.refuse(at, "a time where a text is needed", "Expected a text; tsToStr() gives one.")
        return self.as_type(value, TEXT, at)

    def _membership(self, membership: Membership, scope: Scope) -> TypedExpression:
        """Constants of several types become one test for each type that the left side is read as."""
        left = self.value(membership.left, scope)
        tests: dict[FieldType, tuple[TypedExpression, list[Value]]] = {}
        for one in membership.constants:
            value, constant = self._beside(left, one, membership.left.at)
            tests.setdefault(value.type, (value, []))[1].append(constant)
        contained = [Contained(value, tuple(constants)) for value, constants in tests.values()]
        result = contained[0] if len(contained) == 1 else Some(tuple(contained))
        return Opposite(result) if membership.negated else result

    def _beside(self, left: TypedExpression, right: Constant, at: Position) -> tuple[TypedExpression, Value]:
        """The left side as what the constant is, or the constant as what the left side is."""
        constant = _constant(right.value)
        if constant.value is None or (isinstance(left, ConstantValue) and left.value is None):
            self.refuse(right.at, "null in a comparison", "Expected isNull or isNotNull.")
        if left.type is TEXTS:
            self.refuse(
                at, "a map of texts where one value is needed", "Expected one of its entries, such as labels.key."
            )
        if left.type is JSON or (left.type is TEXT and constant.type is NUMBER):
            return Converted(left, constant.type), constant.value
        return left, self._constant_as(constant, left.type, right.at)

    def _constant_as(self, constant: ConstantValue, wanted: FieldType, at: Position) -> Value:
        """A constant read as a type. Raises QueryInvalid."""
        value = constant.value
        if constant.type is wanted:
            return value
        result: Value = None
        match wanted:
            case FieldType.NUMBER if isinstance(value, str):
                result = number_of(value)
            case FieldType.BOOLEAN if isinstance(value, str):
                result = {"true": True, "false": False}.get(value)
            case FieldType.TEXT if isinstance(value, bool):
                result = "true" if value else "false"
            case FieldType.TEXT if isinstance(value, float):
                result = text_of_number(value)
            case FieldType.TIME if isinstance(value, str):
                result = self._time(value, at)
            case FieldType.TIME if isinstance(value, float) and value.is_integer() and in_range(int(value)):
                result = int(value)
            case _:
                pass
        if result is None:
            expected = (
                'Expected a time such as -15m@now or "2026-01-31T08:00Z".'
                if wanted is TIME
                else f"Expected {_article(wanted)}."
            )
            self.refuse(at, f"{_article(constant.type)} where {_article(wanted)} is needed", expected)
        return result

    def _time(self, text: str, at: Position) -> int:
        try:
            return read_time(text, self._now_ms, self._zone)
        except TimeUnreadable as problem:
            self.refuse(at, str(problem), "Expected @now, -15m@now, ISO 8601 or epoch milliseconds.")


def text_of_number(number: float) -> str:
    """A number as text: the shortest that reads as the same number, whole numbers without a point."""
    return repr(number).removesuffix(".0")


def _constant(value: bool | float | str | Moment | None) -> ConstantValue:
    match value:
        case None:
            return ConstantValue(None, JSON)
        case bool():
            return ConstantValue(value, BOOLEAN)
        case str():
            return ConstantValue(value, TEXT)
        case Moment(ms):
            return ConstantValue(ms, TIME)
        case _:
            return ConstantValue(value, NUMBER)


def _article(type_: FieldType) -> str:
    return {
        TIME: "a time",
        TEXT: "a text",
        NUMBER: "a number",
        BOOLEAN: "true or false",
        TEXTS: "a map of texts",
        JSON: "a value of JSON",
    }[type_]


def _signature(function: Function) -> str:
    words = ["any" if one is None else one.value for one in function.arguments]
    shown = ", ".join(f"[{word}]" if index >= function.required else word for index, word in enumerate(words))
    return f"{function.name}({shown}{', …' if function.repeats else ''})"
