"""The oracle would notice: each of these mistakes in the compiler gives other rows for a plain query."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry.master.query import compiling, fragments, sql_expressions, sql_times
from tenantry.master.query.fragments import Fragment, put
from tenantry.master.query.stages import Chain
from tenantry.nql import parse
from tenantry.nql.tree import Query, Relation
from tests.oracles.nql import Row
from tests.query.engines import Table, ask, same
from tests.query.generated import NOW, NUMBERS, SCHEMA, WORDS
from tests.query.test_oracle import judged

Plant = Callable[[pytest.MonkeyPatch], None]


MOMENTS = (NOW, NOW - 1, 0, -1, -86_400_001, 1_774_746_000_000, 1_774_745_999_999, 1_792_890_000_000, 951_782_400_000)
# Every word, beside numbers, moments and truths of which some are absent.
ROWS: list[Row] = [
    {
        **dict.fromkeys(SCHEMA.columns),
        "timestamp": MOMENTS[index % len(MOMENTS)],
        "serial": float(index),
        "word": word,
        "value": (*NUMBERS, None)[index % (len(NUMBERS) + 1)],
        "ok": (None, True, False)[index % 3],
    }
    for index, word in enumerate(WORDS)
]


def differs(query: Query, expected: dict[str, Table]) -> bool:
    """Whether DuckDB says something else, or fails."""
    try:
        found = ask(query, SCHEMA, ROWS)
    except Exception:  # noqa: BLE001 - a mistake may as well end in an error of DuckDB
        return True
    return not all(same(table, expected[name][1]) for name, (_, table) in found.items())


def _relation(relation: Relation, sql: str) -> Plant:
    return lambda patch: patch.setitem(sql_expressions._RELATIONS, relation, sql)


def _simple(name: str, sql: str) -> Plant:
    return lambda patch: patch.setitem(sql_expressions._SIMPLE, name, sql)


def _forget_order(self: Chain, keys: list[tuple[str, bool]]) -> None:
    self.order = keys[:1]


def _forward_only(ordering: Callable[..., Fragment]) -> Callable[..., Fragment]:
    def forwards(self: Chain, *, backwards: bool = False) -> Fragment:
        del backwards  # the mistake
        return ordering(self)

    return forwards


def _later_offset(self: sql_times.TimeCompiler, wall: Fragment) -> Fragment:
    return self._binder.bind(wall, lambda ms: put("({} - {})", ms, self._offset(ms, self._zone.changes)))


def _discrete(aggregate: Callable[..., Fragment]) -> Callable[..., Fragment]:
    def nearest(self: object, *arguments: Any) -> Fragment:
        made = aggregate(self, *arguments)
        return replace(made, text=made.text.replace("quantile_cont", "quantile_disc"))

    return nearest


def _without_absent(reduce: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    def narrowed(self: object, keys: dict[str, str], aggregates: Any, where: Fragment | None) -> dict[str, str]:
        there = fragments.joined(" AND ", [put("{} IS NOT NULL", fragments.column(one)) for one in keys.values()])
        return reduce(self, keys, aggregates, where or there)

    return narrowed


MISTAKES: dict[str, tuple[Plant, str, str]] = {
    "a sort forgets its further keys": (
        lambda patch: patch.setattr(Chain, "order_by", _forget_order),
        "UTC",
        "sort ok, value desc, word | project ok, value, word",
    ),
    "tail takes the first rows": (
        lambda patch: patch.setattr(Chain, "ordering", _forward_only(Chain.ordering)),
        "UTC",
        "tail 3",
    ),
    "a condition that is used as a value is absent": (
        lambda patch: patch.setattr(
            sql_expressions.ExpressionCompiler, "truth", sql_expressions.ExpressionCompiler.compile
        ),
        "UTC",
        "set c = value > 1",
    ),
    "unequal to an absent value": (_relation(Relation.UNEQUAL, "({} <> {})"), "UTC", "where value != 1"),
    "startsWith finds anywhere": (
        _relation(Relation.STARTS_WITH, "contains({}, {})"),
        "UTC",
        'where word startsWith "b"',
    ),
    "less or equal": (_relation(Relation.LESS_OR_EQUAL, "({} < {})"), "UTC", "where value <= 1"),
    "length in bytes": (_simple("length", "CAST(strlen({}) AS DOUBLE)"), "UTC", "set n = length(word)"),
    "indexOf counts from one": (
        _simple("indexOf", "CAST(strpos({}, {}) AS DOUBLE)"),
        "UTC",
        'set n = indexOf(word, "b")',
    ),
    "wildcards of LIKE are not escaped": (
        lambda patch: patch.setattr(
            sql_expressions, "like_pattern", lambda text: text.replace("*", "%").replace("?", "_")
        ),
        "UTC",
        'where word ~= "a_?"',
    ),
    "anything that casts is a number": (
        lambda patch: patch.setattr(sql_expressions, "_NUMBER", "(?s)^.*$"),
        "UTC",
        "set n = toNumber(word)",
    ),
    "buckets before 1970": (
        lambda patch: patch.setattr(sql_times, "_modulo", lambda value, span: put(f"({{}} % {span})", value)),
        "Europe/Vienna",
        "timeAggr count() interval=1d",
    ),
    "weeks begin on Thursday": (
        lambda patch: patch.setattr(sql_times, "_MONDAY", 0),
        "UTC",
        "timeAggr count() interval=1w",
    ),
    "ranges include their right end": (
        lambda patch: patch.setattr(
            compiling,
            "_limits",
            lambda one: (fragments.number(one.low or 0.0), fragments.number((one.high or 0.0) + 0.5)),
        ),
        "UTC",
        'rangeAggr n=count() on value ranges="0-1,1-2"',
    ),
    "skipped local times are read with the offset after the change": (
        lambda patch: patch.setattr(sql_times.TimeCompiler, "moment", _later_offset),
        "Europe/Vienna",
        "set t = tsParse(word)",
    ),
    "percentiles are one of the values": (
        lambda patch: patch.setattr(
            compiling._ResultCompiler, "_aggregate", _discrete(compiling._ResultCompiler._aggregate)
        ),
        "UTC",
        "aggr prc(serial, k=33)",
    ),
    "groups of absent values are left out": (
        lambda patch: patch.setattr(
            compiling._ResultCompiler, "_reduce", _without_absent(compiling._ResultCompiler._reduce)
        ),
        "UTC",
        "aggr count() by ok",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_the_compiler_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle agrees with the query before, and no longer with the mistake."""
    plant, zone, commands = MISTAKES[name]
    query = parse(f"src stream=samples | {commands}", now_ms=NOW, time_zone=zone)
    expected = judged(query, ROWS)
    assert not differs(query, expected)
    plant(monkeypatch)
    assert differs(query, expected)
