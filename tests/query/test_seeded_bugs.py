"""The oracle would notice: each of these mistakes in the compiler gives other rows for one of the generated queries."""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tenantry.master.query import compiling, fragments, sql_expressions, sql_times
from tenantry.master.query.fragments import Fragment, put
from tenantry.master.query.stages import Chain
from tenantry.nql.tree import Query, Relation
from tests.oracles.nql import Row
from tests.query.engines import Table, ask, same
from tests.query.generated import SCHEMA, queries, records
from tests.query.test_oracle import judged

LONG = os.environ.get("TENANTRY_FAULTS") == "long"
Plant = Callable[[pytest.MonkeyPatch], None]


@lru_cache(maxsize=1)
def pool() -> list[tuple[Query, list[Row], dict[str, Any]]]:
    """Queries, records, and what the oracle says; always the same ones."""
    found: list[tuple[Query, list[Row], dict[str, Any]]] = []

    @seed(5)
    @settings(
        max_examples=600 if LONG else 120,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(query=queries(), rows=records())
    def collect(query: Query, rows: list[Row]) -> None:
        found.append((query, rows, judged(query, rows)))

    collect()
    return found


def differs(query: Query, rows: list[Row], expected: dict[str, Table]) -> bool:
    """Whether DuckDB says something else, or fails."""
    try:
        found = ask(query, SCHEMA, rows)
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


# Those that nearly any query shows, then those that take longer to meet.
COMMON: dict[str, Plant] = {
    "a sort forgets the order before it": lambda patch: patch.setattr(Chain, "order_by", _forget_order),
    "tail takes the first rows": lambda patch: patch.setattr(Chain, "ordering", _forward_only(Chain.ordering)),
    "a condition that is used as a value is absent": lambda patch: patch.setattr(
        sql_expressions.ExpressionCompiler, "truth", sql_expressions.ExpressionCompiler.compile
    ),
}
RARE: dict[str, Plant] = {
    "unequal to an absent value": _relation(Relation.UNEQUAL, "({} <> {})"),
    "startsWith finds anywhere": _relation(Relation.STARTS_WITH, "contains({}, {})"),
    "less or equal": _relation(Relation.LESS_OR_EQUAL, "({} < {})"),
    "length in bytes": _simple("length", "CAST(strlen({}) AS DOUBLE)"),
    "indexOf counts from one": _simple("indexOf", "CAST(strpos({}, {}) AS DOUBLE)"),
    "wildcards of LIKE are not escaped": lambda patch: patch.setattr(
        sql_expressions, "like_pattern", lambda text: text.replace("*", "%").replace("?", "_")
    ),
    "anything that casts is a number": lambda patch: patch.setattr(sql_expressions, "_NUMBER", "(?s)^.*$"),
    "buckets before 1970": lambda patch: patch.setattr(
        sql_times, "_modulo", lambda value, span: put(f"({{}} % {span})", value)
    ),
    "weeks begin on Thursday": lambda patch: patch.setattr(sql_times, "_MONDAY", 0),
    "ranges include their right end": lambda patch: patch.setattr(
        compiling, "_limits", lambda one: (fragments.number(one.low or 0.0), fragments.number((one.high or 1e9) + 0.5))
    ),
    "local times are read with the offset after a change": lambda patch: patch.setattr(
        sql_times.TimeCompiler,
        "moment",
        lambda self, wall: self._binder.bind(
            wall, lambda ms: put("({} - {})", ms, self._offset(ms, self._zone.changes) if self._zone.changes else fragments.whole(0))
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*COMMON, *(RARE if LONG else ())])
def test_a_mistake_of_the_compiler_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the same query agrees."""
    {**COMMON, **RARE}[name](monkeypatch)
    found = next((one for one in pool() if differs(*one)), None)
    assert found is not None
    monkeypatch.undo()
    assert not differs(*found)
