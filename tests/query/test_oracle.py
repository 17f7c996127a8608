"""The compiled SQL gives the rows that the reference promises."""

import os

from hypothesis import HealthCheck, given, settings

from tenantry.nql import parse, print_query
from tenantry.nql.tree import Query
from tests.oracles.nql import Oracle, Row
from tests.query.engines import ask, same
from tests.query.generated import SCHEMA, TYPES, queries, records

LONG = os.environ.get("TENANTRY_FAULTS") == "long"
EXAMPLES = 10_000 if LONG else 60


def judged(query: Query, rows: list[Row]) -> dict[str, tuple[list[str], list[list[object]]]]:
    """What the oracle says."""
    results = Oracle(query, open_column="fields", time="timestamp").run(dict(TYPES), rows, SCHEMA.order)
    return {
        name: (list(types), [[row[one] for one in types] for row in table]) for name, (types, table) in results.items()
    }


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=queries(), rows=records())
def test_duckdb_says_what_the_oracle_says(query: Query, rows: list[Row]) -> None:
    """The same columns and rows in the same order, for generated queries over generated records."""
    text = print_query(query)
    read = parse(text, now_ms=query.now_ms, time_zone=query.time_zone)
    assert read == query
    found, expected = ask(read, SCHEMA, rows), judged(query, rows)
    assert {name: columns for name, (columns, _) in found.items()} == {
        name: columns for name, (columns, _) in expected.items()
    }
    for name, (_, table) in found.items():
        wanted = expected[name][1]
        assert same(table, wanted), f"{text}\n{query.time_zone}\n got {table}\nwant {wanted}"
