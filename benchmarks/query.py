"""Queries: a time-bucketed aggregate over the metrics, against the same question to others about the same samples.

Everything is asked in NQL through the desk that a Master uses, in its own process, as a Master asks it. Others: SQLite with a row a
sample, DuckDB over a Parquet file, Prometheus and VictoriaMetrics with fewer samples (loading them takes long), for which the own
figure is measured anew. Times are walls on all cores; processor times stand beside them, which neighbours disturb less.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.load.frames import TICK_MS, TICKS, machine_layout, machine_values
from benchmarks.peers.installing import PeerMissing, find
from benchmarks.peers.serving import free_port, serving
from benchmarks.reporting import percentile
from benchmarks.rule import metric_name
from benchmarks.stage import Stage
from tenantry.master.config import load
from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.records import StreamName
from tenantry.master.query.answering import answer
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.exchange import Order
from tenantry.master.query.limits import QueryLimits
from tenantry.master.query.metric_source import MetricSource
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import TenantWords
from tenantry.master.query.worker import ReadOnlyStore
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.timeseries.compaction import cut_chunks
from tenantry.master.timeseries.frames import FrameTable
from tenantry.protocol.messages import Configuration

SERIES: Final = 100
TENANTS: Final = 100
FIRST_MS: Final = 1_700_000_400_000
"""On a whole hour, as peers count their buckets."""
BUCKET_MS: Final = 300_000
EVERY_SAMPLE: Final = 'src stream="metricsMaster" | timeAggr v=avg(value) by metric interval="5m"'
ONE_SERIES: Final = (
    'src stream="metricsMaster" | where metric = "system.disk.io" and labels.device = "device007" '
    '| timeAggr v=avg(value) by tenantName interval="5m"'
)
ONE_TENANT: Final = (
    'src stream="metricsMaster" | where tenantName = "tenant-00007" | timeAggr v=avg(value) by metric interval="5m"'
)
LOOPS: Final = 3
COMPARED: Final = "shown for comparison; nothing is promised"
_PLAIN: Final = {"timestamp": pa.int64(), "value": pa.float64()}


@dataclass(frozen=True, slots=True)
class Took:
    """The best of some runs: seconds of wall, of all processors, and rows that came back."""

    wall: float
    cpu: float
    rows: int


def run(stage: Stage) -> None:
    """Print the rows and targets of queries."""
    ticks = stage.size(10_000, 400)
    report = stage.report
    with stage.place("query") as folder:
        dsn = _fill(folder, TENANTS, ticks)
        samples = TENANTS * SERIES * ticks
        report.title(f"queries over {samples:,} samples: {TENANTS} Tenants x {SERIES} series x {ticks:,} ticks of 10 s")
        report.row("", "s", "CPU-s", "M samples/s", "rows")
        own = _ask(stage, dsn, folder, "every sample, by metric and 5 minutes", EVERY_SAMPLE, samples)
        _ask(stage, dsn, folder, "one series of each Tenant", ONE_SERIES, samples)
        _ask(stage, dsn, folder, "one Tenant of all", ONE_TENANT, samples)
        _row_wise(stage, folder, ticks, own, samples)
        _parquet(stage, dsn, folder, own, samples)
        _beside_commits(stage, dsn, folder)
    _growth(stage)
    _peers(stage)


def _row(stage: Stage, label: str, took: Took, samples: int) -> None:
    stage.report.row(label, took.wall, took.cpu, samples / took.wall / 1e6, took.rows)


# --- the data -----------------------------------------------------------------------------------------------------------------


def _values(tenant: int, ticks: int) -> NDArray[np.float64]:
    """Ticks x series of a Tenant's machine: two hours' ticks, over and over."""
    return np.vstack([machine_values(SERIES, tenant)] * -(-ticks // TICKS))[:ticks]


def _times(ticks: int) -> NDArray[np.int64]:
    return FIRST_MS + np.arange(ticks, dtype=np.int64) * TICK_MS


def _fill(folder: Path, tenants: int, ticks: int) -> str:
    """A store with chunks as compaction leaves them; gives its DSN."""
    dsn = load({"data_dir": str(folder)}).dsn
    with Database.open(dsn) as database:
        with database.write() as transaction:
            layout = transaction.layouts.insert_missing([machine_layout(SERIES)]).popitem()[1]
            numbers = [
                transaction.tenants.insert(
                    NewTenant(
                        f"00000000-0000-4000-8000-{n:012x}", f"tenant-{n:05}", "one", "", (), (), Configuration(), 1
                    )
                ).id
                for n in range(tenants)
            ]
        for place, number in enumerate(numbers):
            values = _values(place, ticks)
            table = FrameTable(
                np.full(1, number),
                np.full(1, layout),
                np.ones(1, np.uint64),
                np.full(1, FIRST_MS),
                np.full(1, ticks),
                np.full(1, values.nbytes),
                _times(ticks),
                values.tobytes(),
            )
            with database.write() as transaction:
                transaction.chunks.insert([*cut_chunks(table, max_span_ms=3_600_000)])
    return dsn


# --- the own side -------------------------------------------------------------------------------------------------------------


def _ask(stage: Stage, dsn: str, folder: Path, label: str, text: str, samples: int) -> Took:
    took = asyncio.run(_measured(dsn, folder, text))
    _row(stage, label, took, samples)
    return took


async def _measured(dsn: str, folder: Path, text: str) -> Took:
    """The best of some runs in a process that is there already."""
    desk = QueryDesk(dsn, folder / "temporary", QueryLimits(timeout_ms=600_000), 1, 1)
    try:
        best = Took(float("inf"), float("inf"), 0)
        await _answer(desk, text + " | limit 1", explain=True)  # the process is there, and has read its modules
        for _ in range(LOOPS):
            wall, cpu = time.monotonic(), machine.cpu_seconds(os.getpid())
            rows = await _answer(desk, text)
            spent = time.monotonic() - wall
            if spent < best.wall:
                best = Took(spent, machine.cpu_seconds(os.getpid()) - cpu, rows)
        return best
    finally:
        await desk.close()


async def _answer(desk: QueryDesk, text: str, *, explain: bool = False) -> int:
    order = Order(text, FIRST_MS, "UTC", EVERYTHING, 1_000_000, desk.limits, explain)
    rows = 0
    async for message in desk.run(order, "benchmark"):
        rows += message.get("count", 0)
    return rows


# --- rows in SQLite -----------------------------------------------------------------------------------------------------------


def _row_wise(stage: Stage, folder: Path, ticks: int, own: Took, samples: int) -> None:
    """One row a sample, in the order of series and time, which is the best that SQLite can be given."""
    path = folder / "rows.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 8192; PRAGMA cache_size = -262144;"
            "CREATE TABLE series (id INTEGER PRIMARY KEY, tenant TEXT, metric TEXT, labels TEXT);"
            "CREATE TABLE samples (series INTEGER, timestamp INTEGER, value REAL, PRIMARY KEY (series, timestamp)) WITHOUT ROWID;"
        )
        names = machine_layout(SERIES).series
        times = _times(ticks).tolist()
        for tenant in range(TENANTS):
            values = _values(tenant, ticks)
            for place, one in enumerate(names):
                number = tenant * SERIES + place
                labels = json.dumps(dict(one.labels))
                connection.execute(
                    "INSERT INTO series VALUES (?, ?, ?, ?)", (number, f"tenant-{tenant:05}", one.name, labels)
                )
                rows = zip([number] * ticks, times, values[:, place].tolist(), strict=True)
                connection.executemany("INSERT INTO samples VALUES (?, ?, ?)", rows)
            connection.commit()
        wall, cpu = time.monotonic(), time.process_time()
        found = connection.execute(
            "SELECT metric, timestamp / ? * ?, avg(value) FROM samples JOIN series ON series.id = samples.series GROUP BY 1, 2",
            (BUCKET_MS, BUCKET_MS),
        ).fetchall()
        took = Took(time.monotonic() - wall, time.process_time() - cpu, len(found))
    path.unlink()
    _row(stage, "SQLite, a row a sample", took, samples)
    stage.report.target("query.vs_sqlite_rows", took.wall / own.wall, "ratio", ">= 20")
    stage.report.target("query.vs_sqlite_rows_cpu", took.cpu / own.cpu, "ratio", ">= 20")


# --- Parquet ------------------------------------------------------------------------------------------------------------------


def _parquet(stage: Stage, dsn: str, folder: Path, own: Took, samples: int) -> None:
    """DuckDB by itself over the same rows in a Parquet file (zstd), which nobody could append to."""
    path = folder / "samples.parquet"
    with Database.open(dsn) as database, database.read() as transaction:
        scan = Scan(StreamName.METRICS_MASTER, columns=frozenset({"timestamp", "tenantName", "metric", "value"}))
        source = MetricSource(transaction, scan, TenantWords.load(transaction, scan), Progress())
        plain = pa.schema([(name, _PLAIN.get(name, pa.string())) for name in scan.columns or ()])
        with pq.ParquetWriter(path, plain, compression="zstd") as writer:
            for batch in source.batches():
                columns = [batch.column(name).cast(kind) for name, kind in zip(plain.names, plain.types, strict=True)]
                writer.write_batch(pa.record_batch(columns, schema=plain))
    best = Took(float("inf"), float("inf"), 0)
    for _ in range(LOOPS):
        with contextlib.closing(
            duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "512MiB"})
        ) as connection:
            wall, cpu = time.monotonic(), time.process_time()
            found = connection.execute(
                f"SELECT metric, timestamp // {BUCKET_MS}, avg(value) FROM read_parquet(?) GROUP BY ALL", [str(path)]
            ).fetchall()
            spent = time.monotonic() - wall
            if spent < best.wall:
                best = Took(spent, time.process_time() - cpu, len(found))
    stage.report.note(f"the Parquet file has {path.stat().st_size / samples:.2f} bytes a sample")
    path.unlink()
    _row(stage, "DuckDB over Parquet", best, samples)
    stage.report.target("query.vs_duckdb_parquet", best.wall / own.wall, "ratio", ">= 1", reason=COMPARED)


# --- beside ingest ------------------------------------------------------------------------------------------------------------


def _beside_commits(stage: Stage, dsn: str, folder: Path) -> None:
    """How long the event loop waits for its turn, and a small commit for its end, alone and beside a heavy query."""
    seconds = stage.seconds(8.0, 1.0)
    report = stage.report
    report.row("", "loop p50 ms", "loop p99 ms", "commit p50 ms", "commit p99 ms")
    found = {}
    for label, heavy in (
        ("nothing else", None),
        ("a query in a process", _in_process),
        ("the same in a thread", _in_thread),
    ):
        lags, commits = asyncio.run(_lags(dsn, folder, seconds, heavy))
        found[label] = percentile(commits, 0.99)
        report.row(label, *(percentile(one, part) * 1000 for one in (lags, commits) for part in (0.5, 0.99)))
    for label, name in (("a query in a process", "process"), ("the same in a thread", "thread")):
        report.target(
            f"query.commit_p99_beside_{name}",
            found[label] * 1000,
            "ms",
            "<= 1000",
            reason="shown for the decision between them",
        )


Heavy = Callable[[str, Path, threading.Event], Any]


async def _lags(dsn: str, folder: Path, seconds: float, heavy: Heavy | None) -> tuple[list[float], list[float]]:
    lags: list[float] = []
    commits: list[float] = []
    stop = threading.Event()

    async def tick() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            await asyncio.sleep(0.002)
            lags.append(time.monotonic() - begun - 0.002)

    def commit(database: Database) -> None:
        while not stop.is_set():
            begun = time.monotonic()
            with database.write() as transaction:
                transaction.settings.set("benchmark", str(begun))
            commits.append(time.monotonic() - begun)
            time.sleep(0.005)

    with Database.open(dsn) as database:
        async with asyncio.TaskGroup() as group:
            group.create_task(tick())
            group.create_task(asyncio.to_thread(commit, database))
            if heavy is not None:
                group.create_task(heavy(dsn, folder, stop))
            await asyncio.sleep(seconds)
            stop.set()
    return lags, commits


async def _in_process(dsn: str, folder: Path, stop: threading.Event) -> None:
    desk = QueryDesk(dsn, folder / "temporary", QueryLimits(timeout_ms=600_000), 1, 1)
    try:
        while not stop.is_set():
            await _answer(desk, EVERY_SAMPLE)
    finally:
        await desk.close()


async def _in_thread(dsn: str, folder: Path, stop: threading.Event) -> None:
    order = Order(EVERY_SAMPLE, FIRST_MS, "UTC", EVERYTHING, 1_000_000, QueryLimits())

    def loop() -> None:
        while not stop.is_set():
            with ReadOnlyStore(dsn).read(EVERYTHING, 600_000) as transaction:
                answer(transaction, order, folder / "temporary", lambda _: None)

    await asyncio.to_thread(loop)


# --- growth -------------------------------------------------------------------------------------------------------------------


def _growth(stage: Stage) -> None:
    """A question about the last hour costs the same, however long the history is."""
    report = stage.report
    report.title("growth with history: the last hour of 20 Tenants x 100 series")
    report.row("history", "s", "CPU-s", "M samples/s", "rows")
    walls = []
    for ticks in (stage.size(1_000, 400), stage.size(4_000, 800), stage.size(16_000, 1_600)):
        with stage.place("growth") as folder:
            dsn = _fill(folder, 20, ticks)
            start = FIRST_MS + ticks * TICK_MS - 3_600_000
            text = f'src stream="metricsMaster" startTime={start} | timeAggr v=avg(value) by metric interval="5m"'
            took = _ask(stage, dsn, folder, f"{ticks * TICK_MS / 3_600_000:.1f} h", text, 20 * SERIES * 360)
            walls.append(took.wall)
    report.target("query.growth_of_history", walls[-1] / walls[0], "ratio", "<= 2")


# --- peers --------------------------------------------------------------------------------------------------------------------


def _peers(stage: Stage) -> None:
    """The same with as many samples as peers can be given in a reasonable time."""
    tenants, ticks = 20, stage.size(2_880, 400)
    samples = tenants * SERIES * ticks
    with stage.place("query-peers") as folder:
        dsn = _fill(folder, tenants, ticks)
        stage.report.title(f"peers, over {samples:,} samples: {tenants} Tenants x {SERIES} series x {ticks:,} ticks")
        stage.report.row("", "s", "CPU-s", "M samples/s", "rows")
        own = _ask(stage, dsn, folder, "every sample, by metric and 5 minutes", EVERY_SAMPLE, samples)
        for name, measure in (("prometheus", _prometheus), ("victoria_metrics", _victoria_metrics)):
            target = f"query.vs_{name}"
            if not stage.peers:
                stage.report.target(target, None, "ratio", ">= 1", reason="no peers are measured")
                continue
            try:
                took = measure(folder, tenants, ticks)
            except (PeerMissing, subprocess.CalledProcessError, OSError) as error:
                stage.report.loud(f"{name} could not be measured: {error}")
                stage.report.target(target, None, "ratio", ">= 1", reason=str(error)[:200])
                continue
            _row(stage, name, took, samples)
            stage.report.target(target, took.wall / own.wall, "ratio", ">= 1", reason=COMPARED)


def _open_metrics(tenants: int, ticks: int) -> Iterator[str]:
    """The samples in the text form that promtool makes blocks of: families together, times in seconds, rising."""
    series = machine_layout(SERIES).series
    values = [_values(tenant, ticks) for tenant in range(tenants)]
    times = (_times(ticks) / 1000).tolist()
    for family in sorted({metric_name(one.name) for one in series}):
        yield f"# TYPE {family} gauge\n"
        for place, one in enumerate(series):
            if metric_name(one.name) != family:
                continue
            labels = ",".join(f'{name}="{value}"' for name, value in one.labels)
            for tenant in range(tenants):
                head = f'{family}{{instance="tenant-{tenant:05}",{labels}}}'
                column = values[tenant][:, place].tolist()
                yield "".join([f"{head} {value!r} {stamp:.0f}\n" for value, stamp in zip(column, times, strict=True)])
    yield "# EOF\n"


def _prometheus(folder: Path, tenants: int, ticks: int) -> Took:
    """Blocks made by promtool, then asked over its HTTP API. Raises PeerMissing."""
    program, tool, port = find("prometheus"), find("promtool"), free_port()
    written, data = folder / "samples.om", folder / "prometheus"
    with written.open("w") as file:
        file.writelines(_open_metrics(tenants, ticks))
    subprocess.run(
        [tool, "tsdb", "create-blocks-from", "openmetrics", str(written), str(data)], check=True, capture_output=True
    )
    written.unlink()
    (folder / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        "--query.max-samples=1000000000",
        "--query.timeout=10m",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with serving(command, port, folder) as pid:
        _release(pid)
        return _asked(pid, port, ticks)


def _victoria_metrics(folder: Path, tenants: int, ticks: int) -> Took:
    """Imported over HTTP, then asked with PromQL. Raises PeerMissing."""
    program, port = find("victoria-metrics"), free_port()
    command = [
        program,
        f"-storageDataPath={folder / 'victoria'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-search.maxSamplesPerQuery=1000000000",
        "-search.maxQueryDuration=10m",
        "-search.disableCache",
        "-loggerLevel=ERROR",
    ]
    with serving(command, port, folder) as pid:
        _release(pid)
        series = machine_layout(SERIES).series
        times = _times(ticks).tolist()
        for tenant in range(tenants):
            values = _values(tenant, ticks)
            lines = [
                json.dumps(
                    {
                        "metric": {
                            "__name__": metric_name(one.name),
                            "instance": f"tenant-{tenant:05}",
                            **dict(one.labels),
                        },
                        "values": values[:, place].tolist(),
                        "timestamps": times,
                    }
                )
                for place, one in enumerate(series)
            ]
            _http(port, "/api/v1/import", "\n".join(lines).encode())
        _http(port, "/internal/force_flush")
        return _asked(pid, port, ticks)


def _release(pid: int) -> None:
    """All cores, as the own processes have them."""
    for one in machine.tree(pid):
        with contextlib.suppress(OSError):
            for task in (Path("/proc") / str(one) / "task").iterdir():
                os.sched_setaffinity(int(task.name), machine.CORES)


def _asked(pid: int, port: int, ticks: int) -> Took:
    query = 'avg by (__name__) (avg_over_time({__name__=~"system_.+"}[5m]))'
    end = FIRST_MS + ticks * TICK_MS
    where = urllib.parse.urlencode(
        {
            "query": query,
            "start": (FIRST_MS + BUCKET_MS) // 1000,
            "end": end // 1000,
            "step": BUCKET_MS // 1000,
            "timeout": "10m",
        }
    )
    best = Took(float("inf"), float("inf"), 0)
    for _ in range(LOOPS):
        wall, cpu = time.monotonic(), machine.cpu_seconds(pid)
        answer = json.loads(_http(port, f"/api/v1/query_range?{where}&nocache=1"))
        spent = time.monotonic() - wall
        rows = sum(len(one["values"]) for one in answer["data"]["result"])
        if not rows:
            raise PeerMissing(f"it answered with nothing: {str(answer)[:300]}")
        if spent < best.wall:
            best = Took(spent, machine.cpu_seconds(pid) - cpu, rows)
    return best


def _http(port: int, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    with urllib.request.urlopen(request, timeout=900) as answer:  # noqa: S310 - of this machine
        read: bytes = answer.read()
    return read
