"""One record at a time, without a database."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.nql import parse_condition, tree
from tenantry.nql.matching import record_matcher, record_value
from tenantry.protocol.failures import QueryInvalid
from tests.query.engines import ask, same
from tests.query.generated import NOW, SCHEMA, TYPES, ZONES, Draw, Maker, records

EXAMPLES = 4_000 if os.environ.get("TENANTRY_FAULTS") == "long" else 80


@st.composite
def of_one_record(draw: Draw) -> tuple[tree.Expression, tree.Expression, str]:
    """A value, a condition, and the time zone of both."""
    maker = Maker(draw, dict(TYPES))
    return maker.any(4), maker.condition(3), draw(st.sampled_from(ZONES))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=of_one_record(), rows=records())
def test_python_says_of_a_record_what_duckdb_says(
    made: tuple[tree.Expression, tree.Expression, str], rows: list[dict[str, Any]]
) -> None:
    """The same rows, record by record, as the compiled query gives for all."""
    value, condition, zone = made
    holds = record_matcher(condition, SCHEMA, now_ms=NOW, time_zone=zone)
    computed = record_value(value, SCHEMA, now_ms=NOW, time_zone=zone)
    ordered = sorted(rows, key=lambda row: (row["timestamp"], row["serial"]))
    mine = [[record["serial"], computed(record)] for record in ordered if record["timestamp"] < NOW and holds(record)]
    commands: tuple[tree.Command, ...] = (
        tree.Where(condition),
        tree.Set((tree.Assignment("computed", value),)),
        tree.Project((tree.Projected("serial"), tree.Projected("computed"))),
    )
    (_, theirs) = ask(tree.Query(tree.Source("samples", None, NOW), commands, NOW, zone), SCHEMA, rows)[""]
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


def test_no_pattern_takes_long() -> None:
    """A regular expression that would never end in a backtracking engine ends at once."""
    holds = record_matcher(parse_condition("word = /^(a+)+$/", now_ms=NOW), SCHEMA, now_ms=NOW)
    assert not holds({"word": "a" * 100_000 + "!"})
