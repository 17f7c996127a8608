"""Constant arguments that steer a function: formats, intervals, patterns, subnets. Read once, when a query is checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from tenantry.nql.patterns import read_pattern
from tenantry.nql.times import TimeUnreadable, read_interval
from tenantry.nql.typed import ConstantValue, TypedExpression, Value

ISO_FORMAT = "%Y-%m-%dT%H:%M:%S.%L%z"
PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)

_WRITTEN = frozenset("YmdHMSLjz%")
_READ = frozenset("YmdHMSLz%")
_MAX_FORMAT = 100
_MAX_SUBNETS = 64

Read = tuple[str, tuple[TypedExpression, ...], tuple[object, ...]]


class SettingWrong(ValueError):
    """A constant argument is wrong: the ``argument``-th (from 0). Its message and ``expected`` are for the user."""

    def __init__(self, argument: int, problem: str, expected: str) -> None:
        super().__init__(problem)
        self.argument = argument
        self.expected = expected


def read_settings(function: str, arguments: Sequence[TypedExpression]) -> Read:
    """The function to apply, what to, and with which settings. Raises SettingWrong."""
    reader = _READERS.get(function)
    return reader(arguments) if reader else (function, tuple(arguments), ())


def _constant(arguments: Sequence[TypedExpression], index: int, otherwise: Value) -> Value:
    if index >= len(arguments):
        return otherwise
    argument = arguments[index]
    value = argument.value if isinstance(argument, ConstantValue) else None
    if value is None:
        raise SettingWrong(index, "null where a constant is needed", "Expected a constant.")
    return value


def _format(arguments: Sequence[TypedExpression], letters: frozenset[str]) -> str:
    text = str(_constant(arguments, 1, ISO_FORMAT))
    if len(text) > _MAX_FORMAT or not text.isprintable():
        raise SettingWrong(1, "no format of a time", f"Expected at most {_MAX_FORMAT} printable characters.")
    for piece in split_format(text):
        if piece.startswith("%") and piece[1:] not in letters:
            known = " ".join(f"%{one}" for one in sorted(letters))
            raise SettingWrong(1, f"{piece!r} is no part of a time", f"Expected {known}.")
    return text


def split_format(text: str) -> list[str]:
    """A format in pieces: ``%`` with its letter, or text between."""
    pieces: list[str] = []
    index = 0
    while index < len(text):
        if text[index] == "%":
            pieces.append(text[index : index + 2])
            index += 2
        else:
            end = text.find("%", index)
            end = len(text) if end < 0 else end
            pieces.append(text[index:end])
            index = end
    return pieces


def _to_text(arguments: Sequence[TypedExpression]) -> Read:
    return "tsToStr", (arguments[0],), (_format(arguments, _WRITTEN),)


def _from_text(arguments: Sequence[TypedExpression]) -> Read:
    if len(arguments) == 1:
        return "tsParse", (arguments[0],), (None,)
    pieces = [one for one in split_format(_format(arguments, _READ)) if one.startswith("%") and one != "%%"]
    if len(set(pieces)) != len(pieces) or not {"%Y", "%m", "%d"} <= set(pieces) or "%z" in pieces[:-1]:
        raise SettingWrong(1, "a format that gives no time", "Expected %Y, %m and %d, each part once, %z as the last.")
    return "tsParse", (arguments[0],), (str(_constant(arguments, 1, "")),)


def _bucket(arguments: Sequence[TypedExpression]) -> Read:
    try:
        return "timeBucket", (arguments[0],), (read_interval(str(_constant(arguments, 1, ""))),)
    except TimeUnreadable as problem:
        raise SettingWrong(1, str(problem), "Expected a number and one of ms s m h d w M y, such as 5m.") from None


def _whole(arguments: Sequence[TypedExpression], index: int, most: int, otherwise: int, what: str) -> int:
    value = _constant(arguments, index, float(otherwise))
    if not isinstance(value, float) or not value.is_integer() or not 0 <= value <= most:
        raise SettingWrong(index, f"no {what}", f"Expected a whole number from 0 to {most}.")
    return int(value)


def _round(arguments: Sequence[TypedExpression]) -> Read:
    return "round", (arguments[0],), (_whole(arguments, 1, 15, 0, "number of digits"),)


def _extract(arguments: Sequence[TypedExpression]) -> Read:
    pattern = str(_constant(arguments, 1, ""))
    try:
        groups = read_pattern(pattern).groups
    except ValueError as problem:
        raise SettingWrong(
            1, f"the regular expression is wrong: {str(problem)[:200]}", "Expected the syntax of RE2."
        ) from None
    return (
        "extract",
        (arguments[0],),
        (pattern, _whole(arguments, 2, min(groups, 9), 0, "group of the regular expression")),
    )


def _subnets(arguments: Sequence[TypedExpression]) -> Read:
    if len(arguments) - 1 > _MAX_SUBNETS:
        raise SettingWrong(_MAX_SUBNETS, "too many subnets", f"Expected at most {_MAX_SUBNETS}.")
    networks = []
    for index in range(1, len(arguments)):
        text = str(_constant(arguments, index, ""))
        try:
            networks.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            raise SettingWrong(
                index, f"{text[:60]!r} is no subnet", "Expected one such as 10.0.0.0/8 or fd00::/8."
            ) from None
    return "inSubnet", (arguments[0],), tuple(networks)


def _private(arguments: Sequence[TypedExpression]) -> Read:
    return "inSubnet", (arguments[0],), PRIVATE_NETWORKS


_READERS: dict[str, Callable[[Sequence[TypedExpression]], Read]] = {
    "tsToStr": _to_text,
    "tsParse": _from_text,
    "timeBucket": _bucket,
    "round": _round,
    "extract": _extract,
    "inSubnet": _subnets,
    "isPrivateIp": _private,
}
