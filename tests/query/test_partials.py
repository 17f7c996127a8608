"""Over sums of samples a query says what it says over the samples, and only queries that can are asked that way."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tenantry.master.domain.records import StreamName
from tenantry.master.domain.stream_fields import METRICS
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.query.compiling import compile_query
from tenantry.master.query.metric_source import MetricSource
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import OWNER, TenantWords
from tenantry.master.sql.database import Database
from tenantry.nql.parsing import parse
from tenantry.nql.tree import Query
from tests.master.operations.stored_metrics import LAYOUTS, NAN, commit, frame, register_tenants
from tests.oracles.nql import Oracle
from tests.query.engines import engine, same
from tests.query.generated import ZONES
from tests.servers.stores import empty_store

BASE = 1_774_728_000_000
"""Some hours before clocks go forward in Europe, on 2026-03-29."""
HOUR = 3_600_000
EXAMPLES = 3_000 if os.environ.get("TENANTRY_FAULTS") == "long" else 40
TYPES = {name: kind.value for name, kind in METRICS.columns.items()}
SOURCE = 'src stream="metricsMaster"'


class Rows(list[dict[str, Any]]):
    """Records; too many to be shown."""

    def __repr__(self) -> str:
        return f"{len(self)} rows"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Twelve hours of three Tenants: chunks that overlap, what came late, gaps, and segments that are not compacted yet."""
    chance = random.Random(5)
    found = Database.open(empty_store(tmp_path_factory.mktemp("partials")))
    tenants = register_tenants(found)
    with found.read() as transaction:
        numbers = {number: transaction.layouts.all_ids()[layout.id] for number, layout in LAYOUTS.items()}
    compactor = Compactor(CompactionPolicy(window_ms=1, ticks_per_chunk=6))
    for place in range(18):
        frames = []
        for tenant in tenants:
            for number, layout in LAYOUTS.items():
                ticks = [
                    (
                        BASE + place * HOUR * 2 // 3 + chance.randrange(-HOUR, HOUR),
                        tuple(
                            NAN if chance.random() < 0.15 else chance.randrange(-400, 400) / 4 for _ in layout.series
                        ),
                    )
                    for _ in range(chance.randrange(1, 7))
                ]
                frames.append(frame(tenant.id, numbers[number], BASE + place * HOUR, ticks))
        commit(found, frames)
        if place == 13:
            while compactor.step(found, BASE + 1_000 * HOUR):
                pass
    yield found
    found.close()


def stored(database: Database, scan: Scan) -> pa.Table:
    """All that a scan hands over."""
    with database.read() as transaction:
        source = MetricSource(transaction, scan, TenantWords.load(transaction, scan), Progress())
        return pa.Table.from_batches(source.batches(), source.schema)


@pytest.fixture(scope="module")
def samples(database: Database) -> Rows:
    """Each sample."""
    return Rows(
        {name: dict(cell) if name == "labels" else cell for name, cell in row.items() if name != OWNER}
        for row in stored(database, Scan(StreamName.METRICS_MASTER)).to_pylist()
    )


Answer = dict[str, tuple[list[str], list[list[Any]]]]


def over_cells(database: Database, query: Query) -> Answer:
    """What a query that can be worked out over sums gives."""
    compiled = compile_query(query, METRICS, cells=True)
    assert compiled.grain_ms is not None
    scan = Scan(
        StreamName.METRICS_MASTER,
        start_ms=query.source.start_ms,
        end_ms=query.source.end_ms,
        columns=compiled.source_columns,
        grain_ms=compiled.grain_ms,
    )
    connection = engine()
    connection.register("source", stored(database, scan))
    try:
        return {
            one.name: (
                [column.name for column in one.columns],
                [[*row] for row in connection.execute(one.sql, list(one.parameters)).fetchall()],
            )
            for one in compiled.statements
        }
    finally:
        connection.unregister("source")


def judged(query: Query, rows: Rows) -> Answer:
    """What the oracle says about the samples."""
    results = Oracle(query, open_column=None, time="timestamp").run(dict(TYPES), rows, METRICS.order)
    return {
        name: (list(types), [[row[one] for one in types] for row in table]) for name, (types, table) in results.items()
    }


# fmt: off
AGGREGATES = (
    "count()", "count(v)", "count(labels.state)", "sum(v)", "avg(v)", "min(v)", "max(v)", "dc(labels.state)", "min(metric)",
    "max(day)",
)
# fmt: on
KEYS = ("metric", "tenantName", "labels.state", "day", "bucket=timeBucket(timestamp, '30m')", "h=getHour(timestamp)")
CONDITIONS = (
    'metric = "system.memory.usage"',
    'tenantName != "tenant 2" and not labels.state = "free"',
    "getHour(timestamp) < 23 or labels.state isNull",
    "timeBucket(timestamp, '3h') > '2026-03-28T21:00'",
)
INTERVALS = ("1m", "7m", "30m", "1h", "5h", "1d", "1w", "1M")


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Queries that begin with what is the same for all samples of a cell, and then group."""

    def some(values: tuple[str, ...], least: int, most: int) -> list[str]:
        return draw(st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True))

    bounds = sorted(draw(st.tuples(*[st.integers(BASE - 2 * HOUR, BASE + 16 * HOUR)] * 2)))
    names = some(("startTime", "endTime"), 0, 2)
    parts = [" ".join([SOURCE, *(f"{name}={bounds[name == 'endTime']}" for name in names)])]
    parts += [f"where {one}" for one in some(CONDITIONS, 0, 1)]
    parts += ["set v = value, day = timeBucket(timestamp, '1d'), odd = value * 2"]
    parts += some(("project timestamp, v, day, metric, labels, tenantName", "project -odd"), 0, 1)
    groups = [_group(draw, some) for _ in range(draw(st.integers(1, 2)))]
    parts.append(groups[0] if len(groups) == 1 else f"fork a=({groups[0]}), b=({groups[1]})")
    return " | ".join(parts)


def _group(draw: st.DrawFn, some: Any) -> str:
    measures = [f"a{place}={one}" for place, one in enumerate(some(AGGREGATES, 1, 4))]
    keys = some(KEYS, 0, 3)
    by = f" by {', '.join(keys)}" if keys else ""
    kind = draw(st.sampled_from(("aggr", "timeAggr", "timeAggr", "top")))
    if kind == "top":
        measure = draw(st.sampled_from([one for one in AGGREGATES if one != "avg(v)"]))
        return f"top metric, labels.state by tenantName, a0={measure} limit=2 | sort a0 desc"
    if kind == "timeAggr":
        return f"timeAggr {', '.join(measures)}{by} interval={draw(st.sampled_from(INTERVALS))} bucketAlias=t"
    return f"aggr {', '.join(measures)}{by} | where a0 isNotNull | limit 7"


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@example(text=f"{SOURCE} endTime=0 | aggr count(), count(labels.state), sum(value), avg(value)", zone="UTC")
@given(text=texts(), zone=st.sampled_from(ZONES))
def test_sums_say_what_samples_say(database: Database, samples: Rows, text: str, zone: str) -> None:
    """The same rows in the same order; the values are quarters, so that no sum depends on its order."""
    query = parse(text, now_ms=BASE, time_zone=zone)
    found, expected = over_cells(database, query), judged(query, samples)
    assert found.keys() == expected.keys()
    for name, (columns, table) in found.items():
        assert columns == expected[name][0]
        assert same(table, expected[name][1]), f"{text}\n{zone}\n got {table}\nwant {expected[name][1]}"


@pytest.mark.parametrize(
    "command",
    [
        "where value > 5",
        "where value > 5 | aggr count()",
        "where timestamp > '2026-03-28' | aggr count()",
        "limit 9 | aggr count()",
        "sort value | aggr first(metric)",
        "unwind labels as one | aggr count() by one",
        "aggr prc95(value)",
        "aggr first(value)",
        "aggr join(metric)",
        "aggr dc(value)",
        "aggr max(timestamp)",
        "aggr sum(value * 2)",
        "set w = value + 1 | aggr avg(w)",
        "aggr count() by value",
        "aggr count() by s=getSecond(timestamp), m=getMillisecond(timestamp)",
        "timeAggr count() interval=100ms",
        "timeAggr count() on=receivedAt interval=1h",
        "rangeAggr count() on value ranges='0-1'",
        "top metric by avg(value)",
        "fork a=(aggr count()), b=(limit 1)",
        "project value as __sum, metric | aggr sum(__sum)",
        "set value = 1 | aggr sum(value)",
    ],
)
def test_what_sums_do_not_tell_is_asked_of_samples(command: str) -> None:
    """Whatever depends on single samples, or on their order."""
    query = parse(f"{SOURCE} | {command}", now_ms=BASE, time_zone="UTC")
    assert compile_query(query, METRICS, cells=True).grain_ms is None


@pytest.mark.parametrize(
    ("zone", "source", "command", "grain"),
    [
        ("UTC", "", "timeAggr avg(value) interval=5m", 300_000),
        ("UTC", "", "timeAggr avg(value) by metric interval=1M", 24 * HOUR),
        ("UTC", "", "aggr avg(value) by metric", 0),
        ("UTC", "", "aggr avg(value) by a=timeBucket(timestamp, '4h'), b=timeBucket(timestamp, '6h')", 2 * HOUR),
        ("Europe/Vienna", "", "timeAggr avg(value) interval=1d", HOUR),
        ("Asia/Kolkata", "", "timeAggr avg(value) interval=1h", HOUR // 2),
        ("Australia/Lord_Howe", "", "timeAggr avg(value) interval=1h", HOUR // 2),
        ("Australia/Lord_Howe", "startTime=2026-01-01 endTime=2026-02-01", "timeAggr avg(value) interval=1h", HOUR),
        ("Europe/Vienna", "startTime=2026-01-01 endTime=2026-02-01", "timeAggr avg(value) interval=7h", HOUR),
        ("America/Havana", "startTime=2026-01-01 endTime=2026-02-01", "timeAggr avg(value) interval=10h", 5 * HOUR),
    ],
)
def test_cells_are_as_long_as_the_clock_allows(zone: str, source: str, command: str, grain: int) -> None:
    """Buckets, and the zone's offsets as far as they matter, are multiples of the grain."""
    query = parse(f"{SOURCE} {source} | {command}", now_ms=BASE, time_zone=zone)
    assert compile_query(query, METRICS, cells=True).grain_ms == grain


def test_values_without_bounds(tmp_path: Path) -> None:
    """Infinite samples: what is not finite in the end is absent, as over samples; others are not touched by it."""
    with Database.open(empty_store(tmp_path)) as found:
        tenants = register_tenants(found)
        inf = float("inf")
        columns = ((inf, -inf, NAN), (inf, 1.0, 2.0), (1e308, 1e308, NAN))
        for tenant, values in zip(tenants, columns, strict=True):
            rows = [(BASE + place, (value,)) for place, value in enumerate(values)]
            commit(found, [frame(tenant.id, 1, BASE + tenant.id, rows)])
        while Compactor(CompactionPolicy(window_ms=1)).step(found, BASE + HOUR):
            pass
        text = f"{SOURCE} | aggr sum(value), avg(value), min(value), max(value), count(value) by tenantName"
        query = parse(text, now_ms=BASE, time_zone="UTC")
        connection = engine()
        connection.register("source", stored(found, Scan(StreamName.METRICS_MASTER)))
        (statement,) = compile_query(query, METRICS).statements
        expected = connection.execute(statement.sql).fetchall()
        connection.unregister("source")
        ((_, table),) = over_cells(found, query).values()
    assert [tuple(row) for row in table] == expected
    assert [row[1:3] for row in table] == [[None, None]] * 3 and [row[-1] for row in table] == [2, 3, 2]
