"""The catalogue of functions and aggregates: their names, what they take and what they give."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tenantry.nql.fields import FieldType

TIME, TEXT, NUMBER, BOOLEAN, JSON = (
    FieldType.TIME,
    FieldType.TEXT,
    FieldType.NUMBER,
    FieldType.BOOLEAN,
    FieldType.JSON,
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function: the types of its arguments (``None``: any) and of its result (``None``: that of its arguments together).

    ``required`` of the arguments must be given; the others may be left out from the right. ``repeats``: the last may be given
    again and again. ``constant``: the positions (from 0) of arguments that must be constants. Every function is absent where a
    required argument is, unless ``takes_absent``.
    """

    name: str
    arguments: tuple[FieldType | None, ...]
    result: FieldType | None
    required: int
    repeats: bool = False
    constant: frozenset[int] = frozenset()
    takes_absent: bool = False
    help: str = ""


def _function(
    name: str,
    arguments: tuple[FieldType | None, ...],
    result: FieldType | None,
    help: str,  # noqa: A002 - the word of the dataclass
    *,
    optional: int = 0,
    repeats: bool = False,
    constant: tuple[int, ...] = (),
    takes_absent: bool = False,
) -> Function:
    return Function(
        name=name,
        arguments=arguments,
        result=result,
        required=len(arguments) - optional,
        repeats=repeats,
        constant=frozenset(constant),
        takes_absent=takes_absent,
        help=help,
    )


ADDING = {
    "addMilliseconds": "ms",
    "addSeconds": "s",
    "addMinutes": "m",
    "addHours": "h",
    "addDays": "d",
    "addWeeks": "w",
    "addMonths": "M",
    "addYears": "y",
}

_ALL = (
    _function("now", (), TIME, "the present moment"),
    _function("tsToStr", (TIME, TEXT), TEXT, "a time as text", optional=1, constant=(1,)),
    _function("tsParse", (TEXT, TEXT), TIME, "a time out of a text", optional=1, constant=(1,)),
    _function("toTime", (NUMBER,), TIME, "epoch milliseconds as a time"),
    _function("timeBucket", (TIME, TEXT), TIME, "the beginning of the interval that a time lies in", constant=(1,)),
    *(
        _function(f"get{part}", (TIME,), NUMBER, f"{part} of a time in the query's time zone")
        for part in ("Year", "Month", "Day", "Hour", "Minute", "Second", "Millisecond", "DayOfWeek", "DayOfYear")
    ),
    *(_function(name, (TIME, NUMBER), TIME, "a time moved by a number of units") for name in ADDING),
    *(
        _function(name, (NUMBER,), NUMBER, help)
        for name, help in {  # noqa: A001 - the word of the dataclass
            "abs": "without its sign",
            "ceil": "the next whole number above",
            "floor": "the next whole number below",
            "sqrt": "the square root",
            "exp": "e to the power",
            "ln": "the natural logarithm",
            "log10": "the logarithm to 10",
            "log2": "the logarithm to 2",
            "sign": "-1, 0 or 1",
        }.items()
    ),
    _function(
        "round", (NUMBER, NUMBER), NUMBER, "to digits behind the point, halves away from 0", optional=1, constant=(1,)
    ),
    _function("pow", (NUMBER, NUMBER), NUMBER, "the first to the power of the second"),
    _function("least", (NUMBER, NUMBER), NUMBER, "the smallest that is there", repeats=True, takes_absent=True),
    _function("greatest", (NUMBER, NUMBER), NUMBER, "the greatest that is there", repeats=True, takes_absent=True),
    _function("lower", (TEXT,), TEXT, "in small letters"),
    _function("upper", (TEXT,), TEXT, "in capital letters"),
    _function("trim", (TEXT,), TEXT, "without white space around it"),
    _function("length", (TEXT,), NUMBER, "the number of characters"),
    _function("substr", (TEXT, NUMBER, NUMBER), TEXT, "from a position (from 0), so many characters", optional=1),
    _function("replace", (TEXT, TEXT, TEXT), TEXT, "with every occurrence of the second replaced by the third"),
    _function("indexOf", (TEXT, TEXT), NUMBER, "where the second begins (from 0), -1 if nowhere"),
    _function("splitPart", (TEXT, TEXT, NUMBER), TEXT, "the part of this number (from 0) between separators"),
    _function(
        "extract", (TEXT, TEXT, NUMBER), TEXT, "what a group of a regular expression found", optional=1, constant=(1, 2)
    ),
    _function(
        "concat",
        (TEXT,),
        TEXT,
        "all one after the other; what is absent counts as nothing",
        repeats=True,
        takes_absent=True,
    ),
    _function("toText", (None,), TEXT, "as text"),
    _function("toNumber", (None,), NUMBER, "as a number, where it reads as one"),
    _function("coalesce", (None, None), None, "the first that is there", repeats=True, takes_absent=True),
    _function(
        "inSubnet",
        (TEXT, TEXT),
        BOOLEAN,
        "whether an IP address lies in one of the subnets",
        repeats=True,
        constant=(1,),
    ),
    _function("isIp", (TEXT,), BOOLEAN, "whether a text is an IP address"),
    _function("isIpv4", (TEXT,), BOOLEAN, "whether a text is an IPv4 address"),
    _function("isIpv6", (TEXT,), BOOLEAN, "whether a text is an IPv6 address"),
    _function("isPrivateIp", (TEXT,), BOOLEAN, "whether an IP address is one of private networks"),
)

FUNCTIONS = {one.name: one for one in _ALL}

# What an aggregate takes: NUMBER reads its argument as a number, None takes any type; "type" as result is that of the argument.
AGGREGATES: dict[str, str] = {
    "count": "rows, or rows in which the argument is there",
    "sum": "the sum",
    "avg": "the mean",
    "min": "the smallest",
    "max": "the greatest",
    "first": "the first that is there, in the order of the rows",
    "last": "the last that is there, in the order of the rows",
    "join": "texts one after the other, in the order of the rows",
    "dc": "how many different values, exactly",
    "prc": "the k-th percentile, exactly, between two values on the straight line between them",
}
# The percentile of `prc`, unless something else is said.
PERCENTILE = 95.0

_SHORT_PERCENTILE = re.compile(r"prc(\d{1,2})", re.ASCII)


def short_percentile(name: str) -> float | None:
    """The k of ``prc95`` and its like."""
    match = _SHORT_PERCENTILE.fullmatch(name)
    return float(match[1]) if match else None
