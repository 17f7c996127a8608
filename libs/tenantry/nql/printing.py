"""From tree to text: a query as it would be written out. Reading it again gives the same tree."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tenantry.nql.expectations import KEYWORDS
from tenantry.nql.functions import AGGREGATES
from tenantry.nql.tree import (
    Aggr,
    Aggregate,
    And,
    Arithmetic,
    Call,
    Choice,
    Command,
    Comparison,
    Constant,
    Expression,
    Field,
    Fields,
    Fork,
    Group,
    Interval,
    Limit,
    Membership,
    Moment,
    Negative,
    Not,
    Or,
    Pattern,
    PresenceTest,
    Project,
    Projected,
    Query,
    RangeAggr,
    Records,
    Set,
    Sort,
    Source,
    Tail,
    TimeAggr,
    Top,
    Unwind,
    Where,
)

_PLAIN_NAME = re.compile(r"[^\W\d]\w*(\.\w+)*")
_RESERVED = frozenset(KEYWORDS.values()) | {"OR", "AND", "NOT"}


def print_query(query: Query) -> str:
    """A query as text; times are written as epoch milliseconds."""
    return " | ".join([print_source(query.source), *map(print_command, query.commands)])


def print_source(source: Source) -> str:
    """The first part of a query."""
    words = [f"src stream={_text(source.stream)}"]
    if source.start_ms is not None:
        words.append(f"startTime=@{source.start_ms}")
    if source.end_ms is not None:
        words.append(f"endTime=@{source.end_ms}")
    return " ".join(words)


def print_command(command: Command) -> str:  # noqa: C901 - one case a command
    """One command as text."""
    match command:
        case Where(condition):
            return f"where {print_expression(condition)}"
        case Project(items):
            return f"project {', '.join(map(_projected, items))}"
        case Set(assignments, adds):
            body = ", ".join(f"{_name(one.name)} = {print_expression(one.value)}" for one in assignments)
            return f"{'add' if adds else 'set'} {body}"
        case Sort(keys):
            return "sort " + ", ".join(f"{_name(one.field)} {'desc' if one.descending else 'asc'}" for one in keys)
        case Limit(count, offset):
            return f"limit {offset}, {count}" if offset else f"limit {count}"
        case Tail(count):
            return f"tail {count}"
        case Top():
            return _top(command)
        case Aggr(aggregates, groups, unwind):
            return " ".join(["aggr", _aggregates(aggregates), *_by(groups), *_unwound(unwind)])
        case TimeAggr(aggregates, interval, groups, on, alias, unwind):
            words = ["timeAggr", _aggregates(aggregates), *_by(groups), f"interval={_text(print_interval(interval))}"]
            if on is not None:
                words.append(f"on={print_expression(on)}")
            if alias is not None:
                words.append(f"bucketAlias={_text(alias)}")
            return " ".join([*words, *_unwound(unwind)])
        case RangeAggr(aggregates, on, ranges, groups, alias, unwind):
            words = ["rangeAggr", _aggregates(aggregates), f"on {print_expression(on)}"]
            words.append(f"ranges={_text(','.join(one.label for one in ranges))}")
            return " ".join([*words, *_by(groups), f"bucketAlias={_text(alias)}", *_unwound(unwind)])
        case Fields():
            return "fields"
        case Records():
            return "records"
        case Unwind(field, alias):
            return f"unwind {print_expression(field)}{f' as {_name(alias)}' if alias is not None else ''}"
        case Fork(branches):
            return "fork " + ", ".join(
                f"{_name(one.name)}=({' | '.join(map(print_command, one.commands))})" for one in branches
            )


def print_interval(interval: Interval) -> str:
    """A span such as ``5m``."""
    return f"{interval.count}{interval.unit.value}"


def print_expression(expression: Expression | Pattern) -> str:  # noqa: C901 - one case a node
    """An expression as text, every part of an operation in parentheses."""
    match expression:
        case Constant(value):
            return _constant(value)
        case Pattern(text, ignore_case):
            return f"/{_slashes(text)}/{'i' if ignore_case else ''}"
        case Field(name):
            return _name(name)
        case Call(function, arguments):
            return f"{function}({', '.join(map(print_expression, arguments))})"
        case Negative(operand):
            return f"-{_part(operand)}"
        case Arithmetic(operation, left, right):
            return f"{_part(left)} {operation.value} {_part(right)}"
        case Choice(condition, then, otherwise):
            return f"if({print_expression(condition)} : {print_expression(then)}, {print_expression(otherwise)})"
        case Comparison(relation, left, right):
            return f"{_part(left)} {relation.value} {print_expression(right)}"
        case Membership(left, constants, negated):
            return f"{_part(left)} {'notIn' if negated else 'in'} ({', '.join(map(print_expression, constants))})"
        case PresenceTest(left, presence):
            return f"{_part(left)} {presence.value}"
        case Not(operand):
            return f"not {_part(operand)}"
        case And(operands):
            return " and ".join(map(_part, operands))
        case Or(operands):
            return " or ".join(map(_part, operands))


def _part(expression: Expression) -> str:
    simple = isinstance(expression, Constant | Field | Call | Choice)
    return print_expression(expression) if simple else f"({print_expression(expression)})"


def _constant(value: bool | float | str | Moment | None) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case Moment(ms):
            return f"@{ms}"
        case _:
            return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)


def _text(value: str) -> str:
    escaped = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return f'"{escaped}"'


def _slashes(pattern: str) -> str:
    return pattern.replace("/", "\\/")


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) and name not in _RESERVED else f"`{name}`"


def _projected(item: Projected) -> str:
    return f"{item.sign.value}{_name(item.field)}{f' as {_name(item.alias)}' if item.alias is not None else ''}"


def _aggregate(one: Aggregate) -> str:
    arguments = [] if one.argument is None else [print_expression(one.argument)]
    if isinstance(one.option, str):
        arguments.append(f"sep={_text(one.option)}")
    elif one.option is not None:
        arguments.append(f"k={_constant(one.option)}")
    assert one.function in AGGREGATES  # noqa: S101 - what trees are built from
    return f"{_name(one.name)}={one.function}({', '.join(arguments)})"


def _aggregates(aggregates: Iterable[Aggregate]) -> str:
    return ", ".join(map(_aggregate, aggregates))


def _groups(groups: Iterable[Group]) -> list[str]:
    return [f"{_name(one.name)}={_part(one.value)}" for one in groups]


def _by(groups: tuple[Group, ...]) -> list[str]:
    return [f"by {', '.join(_groups(groups))}"] if groups else []


def _unwound(field: Field | None) -> list[str]:
    return [f"unwind={print_expression(field)}"] if field is not None else []


def _top(command: Top) -> str:
    words = ["rare" if command.rare else "top", ", ".join(map(print_expression, command.fields))]
    by = [*_groups(command.groups), _aggregate(command.measure)]
    return " ".join([*words, f"by {', '.join(by)}", f"limit={command.limit}"])
