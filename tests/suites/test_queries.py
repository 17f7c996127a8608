"""Queries in NQL over both databases: the same answers, narrowed to what the caller sees, whatever their text says."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.query.answering import answer
from tenantry.master.query.exchange import Message, Order
from tenantry.master.query.limits import QueryLimits
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import QueryInvalid, QueryTooLarge, StreamNotFound
from tests.master.operations.stored_metrics import NAN, commit, frame, register_tenants

BASE = 1_700_000_100_000
LIMITS = QueryLimits(memory=64 << 20, threads=1)
CANARY = "canary of another Tenant"


@pytest.fixture
def tenants(database: Database) -> list[Tenant]:
    """Three Tenants with metrics, alerts, and a record of the main tenant; the third one's hold the canary."""
    found = register_tenants(database)
    with database.read() as transaction:
        narrow, wide = sorted(transaction.layouts.all_ids().values())
    for tick in range(6):
        stamp = BASE + tick * 60_000
        commit(
            database,
            [frame(tenant.id, narrow, stamp + 7, [(stamp, (place + tick / 10,))]) for place, tenant in enumerate(found)]
            + [frame(found[0].id, wide, stamp + 7, [(stamp, (1.0, NAN, tick * 10.0))])],
        )
    with database.write() as transaction:
        transaction.records.append(
            [
                NewRecord(
                    StreamName.ALERTS,
                    BASE + place,
                    BASE + place,
                    tenant.id,
                    {"rule": "disk", "n": place, "severity": "high", "text": CANARY if place == 2 else "fine"},
                )
                for place, tenant in enumerate(found)
            ]
            + [NewRecord(StreamName.ALERTS, BASE + 9, BASE + 9, None, {"rule": "own", "n": 9})]
        )
    return found


def ask(
    database: Database, folder: Path, text: str, sight: Sight = EVERYTHING, *, rows: int = 1_000, explain: bool = False
) -> list[Message]:
    """All messages of an answer."""
    messages: list[Message] = []
    order = Order(text, BASE + 600_000, "UTC", sight, rows, LIMITS, explain)
    with database.read(sight) as transaction:
        answer(transaction, order, folder, messages.append)
    return json.loads(json.dumps(messages))  # type: ignore[no-any-return]


def table(messages: Sequence[Message], result: int = 0) -> list[tuple[Any, ...]]:
    """The rows of one result."""
    steps = [message["columns"] for message in messages if message.get("rows") == result]
    return [row for columns in steps for row in zip(*columns, strict=True)]


@pytest.mark.usefixtures("tenants")
def test_metrics_in_buckets_before_and_after_compaction(database: Database, tmp_path: Path) -> None:
    """One row a bucket and Tenant, the same from segments, from a window half done and from chunks."""
    text = (
        'src stream="metricsMaster" | where metric = "system.cpu.utilization" and labels.cpu = "0" '
        '| timeAggr v=max(value), n=count() by tenantName interval="5m" | sort tenantName'
    )
    first = table(ask(database, tmp_path, text))
    assert [(row[1], row[2], row[3]) for row in first] == [
        ("tenant 1", 0.4, 5.0),
        ("tenant 1", 0.5, 1.0),
        ("tenant 2", 1.4, 5.0),
        ("tenant 2", 1.5, 1.0),
        ("tenant 3", 2.4, 5.0),
        ("tenant 3", 2.5, 1.0),
    ]
    compactor = Compactor(CompactionPolicy(window_ms=1, step_bytes=128, ticks_per_chunk=3))
    while compactor.step(database, BASE + 10_000_000):
        assert table(ask(database, tmp_path, text)) == first
    end = ask(database, tmp_path, text)[-1]["end"]
    assert end["segments_read"] == 0 and end["chunks_read"] == end["chunks"] > 0 and not end["damaged"]


@pytest.mark.usefixtures("tenants")
def test_records_and_the_fields_in_them(database: Database, tmp_path: Path) -> None:
    """Fields that are no columns are found in the records' own JSON; a record of the main tenant has no names."""
    found = table(
        ask(database, tmp_path, 'src stream="alerts" | where n >= 1 | project tenantName, n, severity | sort n')
    )
    assert found == [("tenant 2", "1", '"high"'), ("tenant 3", "2", '"high"'), (None, "9", None)]


@pytest.mark.parametrize(
    "text",
    [
        'src stream="alerts"',
        'src stream="alerts" | fields',
        'src stream="alerts" | records',
        'src stream="alerts" | aggr n=count(), t=join(text), d=dc(tenantId), l=last(tenantName)',
        'src stream="alerts" | where tenantName = "tenant 3" or true = true',
        'src stream="alerts" | where not (tenantName = "tenant 1")',
        'src stream="alerts" | where tenantName in ("tenant 2", "tenant 3")',
        'src stream="alerts" | top text',
        'src stream="metricsMaster"',
        'src stream="metricsMaster" | where tenantName != "tenant 1"',
        'src stream="metricsMaster" | timeAggr v=max(value) by tenantName, tenantId interval="1m"',
        'src stream="metricsMaster" | where value > 1.9',
        'src stream="alerts" | where text = "x\' OR 1=1 --"',
        'src stream="alerts" | where text ~= "*" | project text as "a\\" FROM arrived --"',
    ],
)
def test_nothing_of_others_is_in_an_answer(
    database: Database, tenants: list[Tenant], tmp_path: Path, text: str
) -> None:
    """A viewer of the first Tenant: neither rows nor counts nor names of the others, and not the main tenant's."""
    sight = Sight(frozenset({tenants[0].id}), main=False)
    try:
        messages = ask(database, tmp_path, text, sight)
    except QueryInvalid:
        assert "FROM arrived" in text
        return
    written = json.dumps(messages)
    for word in (CANARY, "tenant 2", "tenant 3", tenants[1].guid, tenants[2].guid, "own"):
        assert word not in written.replace(json.dumps(text)[1:-1], "")
    alone = messages[-1]["end"]["rows_read"]
    assert alone <= (1 if "alerts" in text else 18)


def test_what_is_explained_counts_what_is_seen(database: Database, tenants: list[Tenant], tmp_path: Path) -> None:
    """The plan of a viewer speaks of their own Tenants, and runs nothing."""
    text = 'src stream="metricsMaster" | where tenantName = "tenant 2" and metric = "system.cpu.utilization" | aggr count()'
    (message,) = ask(database, tmp_path, text, explain=True)
    plan = message["plan"]
    assert (plan["tenants"], plan["chunks"], plan["rows"]) == (1, 0, 6)
    assert plan["pushed"] == {"tenantName": ["tenant 2"], "metric": ["system.cpu.utilization"]}
    series = 'src stream="metricsMaster" | where labels.state in ("used", "free") | where labels.state = "used" | aggr count()'
    (message,) = ask(database, tmp_path, series, explain=True)
    assert message["plan"]["pushed"] == {"labels.state": ["used"]}
    assert table(ask(database, tmp_path, series)) == [(0.0,)]  # this series was absent throughout
    assert table(ask(database, tmp_path, series.replace('= "used"', '= "free"'))) == [(6.0,)]
    assert plan["statements"][0]["plan"] and "source" in plan["statements"][0]["sql"]
    assert plan["summed_up"].startswith("by series within a chunk")
    (hourly,) = ask(database, tmp_path, f"{text} by hour=timeBucket(timestamp, '1h')", explain=True)
    assert hourly["plan"]["summed_up"].startswith("by series within each 3,600 s of a chunk")
    (single,) = ask(database, tmp_path, text.replace("aggr", "where value > 1 | aggr"), explain=True)
    assert not single["plan"]["summed_up"]
    (message,) = ask(database, tmp_path, text, Sight(frozenset({tenants[0].id}), main=False), explain=True)
    assert (message["plan"]["tenants"], message["plan"]["segments"], message["plan"]["rows"]) == (0, 0, 0)


@pytest.mark.usefixtures("tenants")
def test_rows_are_limited_and_it_is_said(database: Database, tmp_path: Path) -> None:
    """So many rows of each result of a fork, and whether there were more."""
    text = 'src stream="metricsMaster" | fork all=(sort timestamp), some=(where value > 1.0)'
    messages = ask(database, tmp_path, text, rows=5)
    assert [len(table(messages, result)) for result in (0, 1)] == [5, 5]
    assert messages[-1]["end"]["limited"]


@pytest.mark.usefixtures("tenants")
def test_a_wrong_query_points_at_its_place(database: Database, tmp_path: Path) -> None:
    """Line, column and caret; an unknown stream is told as everywhere."""
    with pytest.raises(QueryInvalid) as wrong:
        ask(database, tmp_path, 'src stream="alerts" | sort n dsc')
    assert wrong.value.metadata["line"] == "1" and wrong.value.metadata["caret"].endswith("^")
    with pytest.raises(StreamNotFound):
        ask(database, tmp_path, 'src stream="nothing"')


def test_memory_is_bounded(database: Database, tenants: list[Tenant], tmp_path: Path) -> None:
    """A query that collects more than it may is refused with what to do, and nothing is left on the disk."""
    with database.write() as transaction:
        transaction.records.append(
            [
                NewRecord(
                    StreamName.NOTIFICATIONS, BASE + n, BASE + n, tenants[0].id, {"text": f"{n:05}" + "x" * 40_000}
                )
                for n in range(2_500)
            ]
        )
    with pytest.raises(QueryTooLarge, match="64 MiB"):
        ask(database, tmp_path, 'src stream="notifications" | aggr t=join(text), d=dc(text)')
