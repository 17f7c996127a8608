import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.master.domain.records import NewGap, NewRecord, StreamName
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import (
    ReadRecord,
    RecordFilter,
    list_gaps,
    list_streams,
    make_filter,
    read_records,
)
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid, StreamNotFound
from tenantry.protocol.messages import LossReason, Stream
from tests.master.operations.stored_metrics import NAN, commit, frame, guid_of


def read(
    database: Database, wanted: RecordFilter, size: int = 0, token: str = "", ascending: bool = True
) -> tuple[list[ReadRecord], str]:
    """A page and the next token."""
    with database.read() as transaction:
        return read_records(transaction, wanted, size, token, ascending, LayoutCache())


def read_all(database: Database, wanted: RecordFilter, size: int, *, ascending: bool = True) -> list[ReadRecord]:
    """All pages."""
    found, token = read(database, wanted, size, ascending=ascending)
    while token:
        page, token = read(database, wanted, size, token, ascending)
        assert page
        found += page
    return found


@pytest.fixture
def alerts(database: Database) -> Database:
    """Seven alerts, three of them at one time, of Tenants 1 and 2 and of none."""
    times = [50, 10, 30, 30, 30, 20, 40]
    with database.write() as transaction:
        transaction.records.append(
            [NewRecord(StreamName.ALERTS, at, 100 + n, [1, 2, None][n % 3], {"n": n}) for n, at in enumerate(times)]
        )
    return database


def numbers(page: list[ReadRecord]) -> list[object]:
    """What tells the alerts apart."""
    return [one.fields["n"] for one in page]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_follow_each_other_without_hole_or_repeat(alerts: Database, size: int) -> None:
    """By event time, then in the order of storing; backwards the other way round."""
    wanted = make_filter("alerts")
    assert numbers(read_all(alerts, wanted, size)) == [1, 5, 2, 3, 4, 6, 0]
    assert numbers(read_all(alerts, wanted, size, ascending=False)) == [0, 6, 4, 3, 2, 5, 1]


def test_a_filter_takes_tenants_and_times(alerts: Database) -> None:
    """From the start time to before the end time; a GUID of nobody matches nothing."""
    assert numbers(read_all(alerts, make_filter("alerts", [guid_of(2)]), 9)) == [1, 4]
    assert numbers(read_all(alerts, make_filter("alerts", start_ms=20, end_ms=40), 9)) == [5, 2, 3, 4]
    assert read_all(alerts, make_filter("alerts", [guid_of(77)]), 9) == []


def test_records_carry_the_names_of_their_tenant(alerts: Database) -> None:
    """As they are when the record is read; one that concerns no Tenant has none."""
    tenants = {one.fields["n"]: one.tenant for one in read_all(alerts, make_filter("alerts"), 9)}
    assert tenants[0] is not None and (tenants[0].guid, tenants[0].tenant_name) == (guid_of(1), "tenant 1")
    assert tenants[2] is None


def test_a_token_belongs_to_its_filter_and_order(alerts: Database) -> None:
    """With another stream, filter or order it is refused."""
    _, token = read(alerts, make_filter("alerts"), 2)
    others = [make_filter("notifications"), make_filter("alerts", [guid_of(1)]), make_filter("alerts", start_ms=1)]
    for other in others:
        with pytest.raises(PageTokenInvalid):
            read(alerts, other, 2, token)
    with pytest.raises(PageTokenInvalid):
        read(alerts, make_filter("alerts"), 2, token, ascending=False)
    with alerts.read() as transaction, pytest.raises(PageTokenInvalid):
        list_gaps(transaction, [], 2, token)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(min_size=1), st.binary(min_size=1).map(lambda raw: raw.hex())))
def test_garbage_is_no_token(alerts: Database, token: str) -> None:
    """Whatever the text, the answer is PageTokenInvalid."""
    with pytest.raises(PageTokenInvalid):
        read(alerts, make_filter("alerts"), 2, token)


def test_page_sizes(alerts: Database) -> None:
    """0 means the default, more than the largest is cut, negative is refused."""
    assert len(read(alerts, make_filter("alerts"), 0)[0]) == 7
    assert len(read(alerts, make_filter("alerts"), 1_000_000)[0]) == 7
    with pytest.raises(FieldInvalid):
        read(alerts, make_filter("alerts"), -1)


@pytest.mark.parametrize(
    ("stream", "guids", "start", "end", "metrics", "failure"),
    [
        ("nothing", [], None, None, [], StreamNotFound),
        ("alerts", ["not a guid"], None, None, [], FieldInvalid),
        ("alerts", [], 9, 8, [], FieldInvalid),
        ("alerts", [], None, None, ["system.cpu.utilization"], FieldInvalid),
        ("metricsMaster", [], None, None, ["x" * 1_000], FieldInvalid),
        ("metricsMaster", [], None, None, ["a\x07b"], FieldInvalid),
    ],
)
def test_a_wrong_filter_is_refused(
    stream: str, guids: list[str], start: int | None, end: int | None, metrics: list[str], failure: type[Exception]
) -> None:
    """Before anything is read."""
    with pytest.raises(failure):
        make_filter(stream, guids, start, end, metrics)


@pytest.mark.parametrize("compacted", [False, True])
def test_samples_are_records(database: Database, compacted: bool) -> None:
    """One for each value that is there, with its metric, unit, kind, value and labels; NaN is no record."""
    commit(database, [frame(1, 2, 50, [(10, (1.5, NAN, math.inf))]), frame(2, 1, 50, [(5, (0.25,))])])
    if compacted:
        Compactor(CompactionPolicy(window_ms=0)).step(database, 1_000)
    page = read_all(database, make_filter("metricsMaster"), 1)
    assert [(one.timestamp_ms, one.received_ms, one.tenant and one.tenant.guid) for one in page] == [
        (5, 50, guid_of(2)),
        (10, 50, guid_of(1)),
        (10, 50, guid_of(1)),
    ]
    assert page[1].fields == {
        "metric": "system.memory.usage",
        "unit": "By",
        "kind": "gauge",
        "value": 1.5,
        "labels": {"state": "free"},
    }
    assert page[2].fields["value"] == math.inf
    only = make_filter("metricsMaster", metrics=["system.cpu.utilization"])
    assert [one.fields["value"] for one in read_all(database, only, 9)] == [0.25]


def test_streams_describe_themselves(alerts: Database) -> None:
    """All of them by name, with retention, counts and the times of the oldest and newest record."""
    commit(alerts, [frame(1, 1, 50, [(10, (1.0,)), (20, (2.0,))])])
    Compactor(CompactionPolicy(window_ms=0)).step(alerts, 1_000)
    commit(alerts, [frame(1, 1, 60, [(30, (1.0,))])])
    with alerts.read() as transaction:
        streams = {one.name: one for one in list_streams(transaction, {StreamName.ALERTS: 5_000})}
    assert list(streams) == sorted(StreamName)
    found = streams[StreamName.ALERTS]
    assert (found.records, found.oldest_ms, found.newest_ms, found.retention_ms) == (7, 10, 50, 5_000)
    metrics = streams[StreamName.METRICS_MASTER]
    assert (metrics.records, metrics.oldest_ms, metrics.newest_ms, metrics.retention_ms) == (3, 10, 30, None)
    assert metrics.bytes > 0
    assert streams[StreamName.NETFLOW].records == 0 and streams[StreamName.NETFLOW].oldest_ms is None


def test_gaps_are_listed_newest_first(database: Database) -> None:
    """In pages, all or those of some Tenants."""
    with database.write() as transaction:
        transaction.gaps.append(
            [
                NewGap(1 + n % 2, Stream.METRICS, bytes(16), 1 + n, 2 + n, LossReason.SPOOL_FULL, f"gap {n}", n)
                for n in range(5)
            ]
        )
    with database.read() as transaction:
        first, token = list_gaps(transaction, [], 2, "")
        second, token = list_gaps(transaction, [], 2, token)
        third, end = list_gaps(transaction, [], 2, token)
        mine, _ = list_gaps(transaction, [guid_of(2)], 0, "")
        with pytest.raises(FieldInvalid):
            list_gaps(transaction, [], -1, "")
    assert [one.gap.detail for one in first + second + third] == [f"gap {n}" for n in (4, 3, 2, 1, 0)]
    assert end == ""
    assert [(one.gap.detail, one.tenant.guid) for one in mine] == [("gap 3", guid_of(2)), ("gap 1", guid_of(2))]
