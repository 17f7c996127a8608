"""A Tenant that invents labels: a layout of 4,096 series after the other, each with values of its own."""

import asyncio
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.records import StreamName
from tenantry.master.query import layout_words
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.exchange import Order
from tenantry.master.query.layout_words import LayoutWords
from tenantry.master.query.limits import QueryLimits
from tenantry.master.query.metric_source import MetricSource
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import TenantWords
from tenantry.master.sql.database import Database
from tenantry.master.timeseries.compaction import cut_chunks
from tenantry.master.timeseries.frames import FrameTable
from tenantry.protocol.layouts import MAX_SERIES, Series, SeriesKind, make_layout
from tests.master.operations.stored_metrics import register_tenants
from tests.servers.deadlines import PATIENCE_S
from tests.servers.stores import empty_store

LONG = os.environ.get("TENANTRY_FAULTS") == "long"
LAYOUTS = 245 if LONG else 6
"""245 of them are a million values."""
NOW = 1_700_000_000_000


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which one Tenant has sent each of its label values once."""
    found = empty_store(tmp_path_factory.mktemp("labels"))
    with Database.open(found) as database:
        (tenant, *_) = register_tenants(database)
        for number in range(LAYOUTS):
            layout = make_layout(
                [Series("m", "1", SeriesKind.GAUGE, (("v", f"{number}-{n}"),)) for n in range(MAX_SERIES)]
            )
            values = np.full(MAX_SERIES, float(number))
            with database.write() as transaction:
                known = transaction.layouts.insert_missing([layout])[layout.id]
                one = np.ones(1, np.int64)
                table = FrameTable(
                    one * tenant.id,
                    one * known,
                    one.astype(np.uint64),
                    one * NOW,
                    one,
                    one * values.nbytes,
                    one * (NOW + number),
                    values.tobytes(),
                )
                transaction.chunks.insert([*cut_chunks(table)])
    return found


def test_names_that_are_kept_are_bounded(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a scan comes across, the names of so many series are in memory; all samples are read all the same."""
    monkeypatch.setattr(layout_words, "_SERIES_KEPT", 2 * MAX_SERIES)
    with Database.open(dsn) as database, database.read() as transaction:
        words = LayoutWords(transaction, None, {})
        for number in [*transaction.layouts.all_ids().values()] * 2:
            words.column("labels", [number])
            assert words.kept <= 2 * MAX_SERIES
        scan = Scan(StreamName.METRICS_MASTER)
        source = MetricSource(transaction, scan, TenantWords.load(transaction, scan), Progress())
        assert sum(batch.num_rows for batch in source.batches()) == LAYOUTS * MAX_SERIES


async def test_a_query_over_all_of_them_leaves_the_master_alone(dsn: str, tmp_path: Path) -> None:
    """Each value is found, by a process within its bounds; this one grows by no more than the answer."""
    limits = QueryLimits(memory=256 << 20, threads=1, timeout_ms=int(PATIENCE_S * 1000))
    desk = QueryDesk(dsn, tmp_path / "query", limits, 1, 1)
    text = 'src stream="metricsMaster" | aggr n=count(), values=dc(labels.v)'
    before = psutil.Process().memory_info().rss
    try:
        async with asyncio.timeout(PATIENCE_S):
            order = Order(text, NOW, "UTC", EVERYTHING, 10, limits)
            messages = [message async for message in desk.run(order, "ada")]
    finally:
        await desk.close()
    (row,) = [message["columns"] for message in messages if "rows" in message]
    assert row == [[LAYOUTS * MAX_SERIES], [LAYOUTS * MAX_SERIES]]
    assert psutil.Process().memory_info().rss - before < 64 << 20
