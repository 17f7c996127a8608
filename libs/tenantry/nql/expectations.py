"""What the parser could have read, in words for people instead of the names of terminals."""

from __future__ import annotations

from collections.abc import Iterable

COMMAND_WORDS = (
    "where", "project", "set", "add", "sort", "limit", "tail", "top", "rare", "aggr", "timeAggr", "rangeAggr", "fields",
    "records", "unwind", "fork",
)  # fmt: skip

KEYWORDS = {
    "SRC": "src",
    "SOURCE": "source",
    "STREAM": "stream",
    "START_TIME": "startTime",
    "END_TIME": "endTime",
    "WHERE": "where",
    "PROJECT": "project",
    "SET": "set",
    "ADD": "add",
    "SORT": "sort",
    "LIMIT": "limit",
    "TAIL": "tail",
    "TOP": "top",
    "RARE": "rare",
    "AGGR": "aggr",
    "TIME_AGGR": "timeAggr",
    "RANGE_AGGR": "rangeAggr",
    "FIELDS": "fields",
    "RECORDS": "records",
    "UNWIND": "unwind",
    "FORK": "fork",
    "AS": "as",
    "ASC": "asc",
    "DESC": "desc",
    "BY": "by",
    "INTERVAL": "interval",
    "ON": "on",
    "BUCKET_ALIAS": "bucketAlias",
    "RANGES": "ranges",
    "OR": "or",
    "AND": "and",
    "NOT": "not",
    "IN": "in",
    "NOT_IN": "notIn",
    "IS_NULL": "isNull",
    "IS_NOT_NULL": "isNotNull",
    "IS_EMPTY": "isEmpty",
    "IS_NOT_EMPTY": "isNotEmpty",
    "CONTAINS": "contains",
    "STARTS_WITH": "startsWith",
    "ENDS_WITH": "endsWith",
    "IF": "if",
    "TRUE": "true",
    "FALSE": "false",
    "NULL": "null",
}

_COMMANDS = {name for name, word in KEYWORDS.items() if word in COMMAND_WORDS}
_VALUES = {
    "NUMBER",
    "STRING",
    "TRUE",
    "FALSE",
    "NULL",
    "MOMENT",
    "ISO_TIME",
    "IF",
    "NAME",
    "QUOTED_NAME",
    "LPAR",
    "MINUS",
    "NOT",
    "NOT_UPPER",
}
_OPERATORS = {"EQUAL", "UNEQUAL", "GREATER", "GREATER_OR_EQUAL", "LESS", "LESS_OR_EQUAL", "LIKE"}
_ARITHMETIC = {"PLUS", "MINUS", "TIMES", "DIVIDED", "REMAINDER"}
_TESTS = {"IN", "NOT_IN", "IS_NULL", "IS_NOT_NULL", "IS_EMPTY", "IS_NOT_EMPTY", "CONTAINS", "STARTS_WITH", "ENDS_WITH"}

_SIGNS = {
    "EQUAL": "'='",
    "PLUS": "'+'",
    "MINUS": "'-'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "COLON": "':'",
    "VBAR": "'|'",
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "text in quotes",
    "REGEX": "a regular expression such as /re/",
    "DURATION": "a span such as 5m",
    "MOMENT": "a time such as -15m@now",
    "$END": "the end of the query",
}


def expected_words(terminals: Iterable[str]) -> list[str]:
    """The terminals in words, those that belong together as one, in an order that does not change."""
    left = set(terminals)
    words = []
    for group, word in (
        (_COMMANDS, "a command"),
        (_VALUES, "a value"),
        (_OPERATORS, "an operator such as = or >"),
        (_ARITHMETIC, "+ - * / %"),
        (_TESTS, "contains, startsWith, endsWith, in, notIn, isNull, isNotNull or isEmpty"),
    ):
        if group <= left or (group is _VALUES and {"STRING", "IF"} <= left):
            words.append(word)
            left -= group
    left -= {"QUOTED_NAME", "OR_UPPER", "AND_UPPER", "NOT_UPPER", "ISO_TIME"}
    words += sorted(KEYWORDS[one] for one in left & KEYWORDS.keys())
    words += [_SIGNS[one] for one in _SIGNS if one in left]
    return words
