"""What queries read, on both databases: every sample once, wherever compaction is, and nothing of who is not seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.operations.metric_ticks import Wanted
from tenantry.master.query.engine import Engine, Statement
from tenantry.master.query.limits import QueryLimits
from tenantry.master.query.metric_source import MetricSource
from tenantry.master.query.record_source import RecordSource
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import OWNER, TenantWords
from tenantry.master.sql.database import Database
from tests.master.operations.stored_metrics import LAYOUTS, NAN, StoredModel, commit, frame, register_tenants

METRICS = StreamName.METRICS_MASTER
BASE = 1_700_000_000_000


def rows(database: Database, scan: Scan) -> list[dict[str, Any]]:
    """Everything that a scan hands over."""
    with database.read(scan.sight) as transaction:
        words = TenantWords.load(transaction, scan)
        kind = MetricSource if scan.stream is METRICS else RecordSource
        source = kind(transaction, scan, words, Progress())
        return [row for batch in source.batches() for row in batch.to_pylist()]


def stored(database: Database, seed: int, layouts: dict[int, int]) -> tuple[list[Tenant], StoredModel]:
    """Commits of three Tenants with two layouts, gaps and late ticks among them. ``layouts``: their numbers in the store."""
    rng = np.random.default_rng(seed)
    tenants, model = register_tenants(database), StoredModel()
    with database.read() as transaction:
        numbers = transaction.layouts.all_ids()
    layouts.update({number: numbers[layout.id] for number, layout in LAYOUTS.items()})
    for place in range(12):
        frames, known = [], []
        for tenant in tenants:
            number = int(rng.integers(1, 3))
            width = len(LAYOUTS[number].series)
            ticks = [
                (
                    BASE + place * 1_000 - int(rng.integers(0, 3)) * 2_000 + n,
                    tuple(NAN if rng.random() < 0.2 else float(rng.integers(0, 100)) / 10 for _ in range(width)),
                )
                for n in range(int(rng.integers(1, 5)))
            ]
            frames.append(frame(tenant.id, layouts[number], BASE + place * 1_000 + 5, ticks))
            known.append(frame(tenant.id, number, BASE + place * 1_000 + 5, ticks))
        commit(database, frames)
        model.add(known)
    return tenants, model


def expected(model: StoredModel, tenants: list[Tenant], **filters: Any) -> list[tuple[Any, ...]]:
    """The model's samples as rows."""
    wanted = Wanted(filters.get("tenant_ids"), filters.get("metrics", frozenset()))
    guids = {tenant.id: tenant.guid for tenant in tenants}
    return sorted(
        (one.timestamp, one.received_at, guids[one.tenant_id], one.series.name, one.series.labels, one.value)
        for one in model.by_moment(wanted, filters.get("start_ms"), filters.get("end_ms"))
    )


def as_found(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows as `expected` gives them."""
    return sorted(
        (
            row["timestamp"],
            row["receivedAt"],
            row["tenantId"],
            row["metric"],
            tuple(row["labels"]),
            row["value"],
        )
        for row in found
    )


@pytest.mark.parametrize("seed", range(3))
def test_samples_are_the_same_wherever_compaction_is(database: Database, seed: int) -> None:
    """Segments, a window half done, and chunks give the same rows, with every narrowing."""
    tenants, model = stored(database, seed, {})
    first, second, third = (tenant.id for tenant in tenants)
    compactor = Compactor(CompactionPolicy(window_ms=1, step_bytes=256, ticks_per_chunk=5))
    steps = 0
    while True:
        assert as_found(rows(database, Scan(METRICS))) == expected(model, tenants)
        narrow = Scan(METRICS, Sight(frozenset({first, third}), main=False), BASE + 2_000, BASE + 7_001)
        seen = {"tenant_ids": frozenset({first, third}), "start_ms": BASE + 2_000, "end_ms": BASE + 7_001}
        assert as_found(rows(database, narrow)) == expected(model, tenants, **seen)
        names = frozenset({"system.network.io", "unknown"})
        by_name = Scan(METRICS, EVERYTHING, tenant_names=frozenset({"tenant 2", "nobody"}), metrics=names)
        assert as_found(rows(database, by_name)) == expected(
            model, tenants, tenant_ids=frozenset({second}), metrics=names
        )
        if not compactor.step(database, BASE + 10_000_000):
            break
        steps += 1
    with database.read() as transaction:
        assert not transaction.segments.listing()
        source = MetricSource(transaction, Scan(METRICS), TenantWords.load(transaction, Scan(METRICS)), Progress())
        segments, chunks, samples = source.measure()
    assert steps >= 3 and not segments and chunks > 3 and samples >= len(model.samples)


def test_only_what_is_named_is_made(database: Database) -> None:
    """Columns that a query does not name are not there, and its owner always is."""
    stored(database, 1, {})
    for row in rows(database, Scan(METRICS, columns=frozenset({"value", "tenantName"}))):
        assert set(row) == {"value", "tenantName", OWNER}


def test_records_are_read_within_what_is_seen(database: Database) -> None:
    """Records of the main tenant, of some Tenants and of all; no Tenant of others, also where it is asked for by name."""
    tenants = register_tenants(database)
    with database.write() as transaction:
        transaction.records.append(
            [
                NewRecord(
                    StreamName.ALERTS, BASE + place, BASE + place + 1, owner, {"n": place, "text": "é\U0001f600'\""}
                )
                for place, owner in enumerate([None, *(tenant.id for tenant in tenants)] * 3)
            ]
        )
    alerts = StreamName.ALERTS
    every = rows(database, Scan(alerts))
    assert sorted(json.loads(row["fields"])["n"] for row in every) == list(range(12))
    assert {row["tenantName"] for row in every} == {None, "tenant 1", "tenant 2", "tenant 3"}
    for sight, names in (
        (Sight(frozenset({tenants[1].id}), main=False), {"tenant 2"}),
        (Sight(frozenset({tenants[1].id}), main=True), {None, "tenant 2"}),
        (Sight(frozenset(), main=True), {None}),
        (Sight(frozenset(), main=False), set()),
    ):
        assert {row["tenantName"] for row in rows(database, Scan(alerts, sight))} == names
        asked = Scan(alerts, sight, tenant_names=frozenset({"tenant 1", "tenant 2"}))
        assert {row["tenantName"] for row in rows(database, asked)} == names - {None}
    late = rows(database, Scan(alerts, start_ms=BASE + 5, end_ms=BASE + 7))
    assert [row["timestamp"] for row in late] == [BASE + 5, BASE + 6]


def test_the_statement_narrows_by_itself(database: Database, tmp_path: Path) -> None:
    """Were a source to hand over everything, the statement would still not show it."""
    tenants, model = stored(database, 2, {})
    sight = Sight(frozenset({tenants[0].id}), main=False)
    with database.read() as transaction:
        scan = Scan(METRICS)
        careless = MetricSource(transaction, scan, TenantWords.load(transaction, scan), Progress())
        engine = Engine(careless, sight, QueryLimits(memory=64 << 20, threads=1), tmp_path)
        counted = [
            row
            for step in engine.rows(Statement('SELECT "tenantId", count(*) FROM source GROUP BY 1'), 9)
            for row in step
        ]
        engine.close()
    mine = model.by_moment(Wanted(sight.tenant_ids))
    assert counted == [(tenants[0].guid, len(mine))]


def test_damage_is_told_and_the_rest_is_read(database: Database) -> None:
    """A chunk that cannot be read costs its own samples, and is named."""
    tenants, model = stored(database, 3, {})
    compactor = Compactor(CompactionPolicy(window_ms=1, ticks_per_chunk=5))
    while compactor.step(database, BASE + 10_000_000):
        pass
    with database.write() as transaction:
        (number, data) = transaction.connection.exec_driver_sql("SELECT id, data FROM chunks ORDER BY id LIMIT 1").one()
        damaged = bytes(data)[:-1] + bytes([bytes(data)[-1] ^ 1])
        mark = "%s" if transaction.connection.dialect.name == "postgresql" else "?"
        transaction.connection.exec_driver_sql(f"UPDATE chunks SET data = {mark} WHERE id = {mark}", (damaged, number))
    with database.read() as transaction:
        progress = Progress()
        source = MetricSource(transaction, Scan(METRICS), TenantWords.load(transaction, Scan(METRICS)), progress)
        found = as_found([row for batch in source.batches() for row in batch.to_pylist()])
    assert [one for one in progress.damaged if one.startswith(f"chunk {number}: ")] and len(progress.damaged) == 1
    assert 0 < len(found) < len(model.samples) and set(found) <= set(expected(model, tenants))
