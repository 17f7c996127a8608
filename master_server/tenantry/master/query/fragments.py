"""Pieces of SQL that carry their parameters: no text of a query ever becomes text of SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

Parameter: TypeAlias = bool | int | float | str | list[str] | list[float] | list[int]


@dataclass(frozen=True, slots=True)
class Fragment:
    """SQL with a ``?`` for each parameter, in order, and the columns of the rows below that it reads."""

    text: str
    parameters: tuple[Parameter, ...] = ()
    uses: frozenset[str] = frozenset()
    simple: bool = False  # so cheap that it may be written twice
    span: tuple[int, int] | None = None  # of a time: from here (inclusive) to there (exclusive), where that is known


def put(template: str, *parts: Fragment) -> Fragment:
    """A template of our own with a ``{}`` for each part."""
    return Fragment(
        template.format(*(part.text for part in parts)),
        tuple(parameter for part in parts for parameter in part.parameters),
        frozenset().union(*(part.uses for part in parts)),
    )


def joined(separator: str, parts: Iterable[Fragment]) -> Fragment:
    """Parts one after the other."""
    every = list(parts)
    return put(separator.join(["{}"] * len(every)), *every)


def column(name: str, span: tuple[int, int] | None = None) -> Fragment:
    """A column of the rows below, by the name that the compiler gave it."""
    return Fragment(name, (), frozenset({name}), simple=True, span=span)


def quoted(name: str) -> str:
    """An identifier of SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> Fragment:
    """A constant text."""
    return Fragment("CAST(? AS VARCHAR)", (value,), simple=True)


def number(value: float) -> Fragment:
    """A constant number."""
    return Fragment("CAST(? AS DOUBLE)", (value,), simple=True)


def whole(value: int) -> Fragment:
    """A constant whole number, written out."""
    return Fragment(f"CAST({int(value)} AS BIGINT)", simple=True)


def literal(sql: str) -> Fragment:
    """SQL of our own without parameters."""
    return Fragment(sql, simple=True)


NULL = literal("NULL")


def finite(value: Fragment) -> Fragment:
    """A simple number, absent where it is infinite or not a number. (DuckDB's nullif is a macro that repeats its argument.)"""
    return put("CASE WHEN isfinite({}) THEN {} END", value, value)


class Binder:
    """Computes a value once where its text would be needed several times: in a column of an earlier select.

    (A lambda over a list of one would do it in place, but the time that DuckDB takes to read lambdas within lambdas multiplies.)
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._pending: list[tuple[str, Fragment]] = []

    def bind(self, value: Fragment, body: Callable[[Fragment], Fragment]) -> Fragment:
        """``body`` of a value. What is not simple becomes a column that ``take`` gives."""
        if value.simple:
            return body(value)
        name = f"v{next(self._numbers)}"
        self._pending.append((name, value))
        return body(column(name))

    def clamped(self, value: Fragment, low: int, high: int) -> Fragment:
        """A whole number, absent outside of [low, high]."""
        return self.bind(value, lambda one: put(f"CASE WHEN {{}} BETWEEN {low} AND {high} THEN {{}} END", one, one))

    def finite(self, value: Fragment) -> Fragment:
        """A number, absent where it is infinite or not a number."""
        return self.bind(value, finite)

    def take(self) -> list[dict[str, Fragment]]:
        """The columns that were bound since the last time, those that need others behind those."""
        levels: dict[str, int] = {}
        result: list[dict[str, Fragment]] = []
        for name, value in self._pending:
            level = 1 + max((levels[one] for one in value.uses if one in levels), default=-1)
            levels[name] = level
            if level == len(result):
                result.append({})
            result[level][name] = value
        self._pending = []
        return result
