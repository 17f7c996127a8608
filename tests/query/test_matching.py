"""One record at a time, without a database."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.nql import parse, parse_condition, tree
from tenantry.nql.matching import record_matcher, record_pipe, stateless_commands
from tenantry.protocol.failures import QueryInvalid
from tests.query.engines import ask, same
from tests.query.generated import NOW, SCHEMA, TYPES, ZONES, Draw, Maker, records

EXAMPLES = 4_000 if os.environ.get("TENANTRY_FAULTS") == "long" else 80


@st.composite
def stateless(draw: Draw) -> tree.Query:
    """A computed column, a condition and something to unwind."""
    maker = Maker(draw, dict(TYPES))
    commands: tuple[tree.Command, ...] = (
        tree.Set((tree.Assignment("computed", maker.any(4)),)),
        tree.Where(maker.condition(3)),
        tree.Unwind(tree.Field("list"), "element"),
        tree.Project(
            (
                tree.Projected("serial"),
                tree.Projected("computed"),
                tree.Projected("element"),
                tree.Projected("user.name"),
            )
        ),
    )
    kept = tuple(one for one in commands if not isinstance(one, tree.Unwind)) if draw(st.booleans()) else commands
    if kept is not commands:
        kept = (*kept[:-1], tree.Project((tree.Projected("serial"), tree.Projected("computed"))))
    return tree.Query(tree.Source("samples", None, NOW), kept, NOW, draw(st.sampled_from(ZONES)))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=stateless(), rows=records())
def test_python_says_of_a_record_what_duckdb_says(query: tree.Query, rows: list[dict[str, Any]]) -> None:
    """The same rows, record by record, as the compiled query gives for all."""
    pipe = record_pipe(query, SCHEMA)
    ordered = sorted(rows, key=lambda row: (row["timestamp"], row["serial"]))
    mine = [list(row.values()) for record in ordered for row in pipe.rows(record)]
    (names, theirs) = ask(query, SCHEMA, rows)[""]
    assert [one.name for one in pipe.columns] == names and pipe.rest == 0
    assert same(mine, theirs)


def test_a_condition_of_a_rule() -> None:
    """Names are those of the schema; what a record lacks is absent."""
    condition = parse_condition('value > 0.5 and labels.core notIn ("0", "1")', now_ms=NOW)
    holds = record_matcher(condition, SCHEMA, now_ms=NOW)
    assert holds({"value": 0.75, "labels": {"core": "2"}})
    assert holds({"value": 0.75})
    assert not holds({"value": 0.75, "labels": {"core": "1"}})
    assert not holds({})
    with pytest.raises(QueryInvalid):
        record_matcher(parse_condition("value = 'x'", now_ms=NOW), SCHEMA, now_ms=NOW)


def test_how_much_of_a_query_needs_one_record_only() -> None:
    """Everything up to the first command that looks at others."""
    query = parse("src stream=samples | value > 1 | set a = value | limit 3 | where a > 2", now_ms=NOW)
    assert stateless_commands(query.commands) == 2
    pipe = record_pipe(query, SCHEMA)
    assert pipe.rest == 2
    assert [row["a"] for row in pipe.rows({"timestamp": 0, "value": 2.0})] == [2.0]
    assert pipe.rows({"timestamp": 0, "value": 1.0}) == []


def test_no_pattern_takes_long() -> None:
    """A regular expression that would never end in a backtracking engine ends at once."""
    holds = record_matcher(parse_condition("word = /^(a+)+$/", now_ms=NOW), SCHEMA, now_ms=NOW)
    assert not holds({"word": "a" * 100_000 + "!"})
