"""T7: stored bytes a sample after compaction, of what the daemon's own probes measure here, and whether all of it is there.

The probes of one interval are recorded faster than they would be read, so that a chunk of 120 ticks does not take 20 minutes.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.frames import TICK_MS, TICKS, machine_layout, machine_values
from benchmarks.stage import Stage
from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.probes.contract import Probe, measure
from tenantry.daemon.probes.discovery import discover_probes
from tenantry.master.config import load
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.sql.database import Database
from tenantry.master.timeseries.chunks import decode_chunk
from tenantry.master.timeseries.compaction import TICKS_PER_CHUNK
from tenantry.master.timeseries.frames import Frame, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.layouts import Layout, Series, make_layout

FIRST_MS: Final = 1_700_000_000_000
RECORDING_S: Final = 0.5
DAY_MS: Final = 86_400_000
Key = tuple[str, tuple[tuple[str, str], ...]]


def run(stage: Stage) -> None:
    """Print the rows and targets of T7."""
    report = stage.report
    report.title("T7 size: bytes a sample in the store")
    report.row("", "series", "ticks", "as segments", "as chunks", "CPU-ns a sample", "lossless")
    ticks = stage.size(2 * TICKS_PER_CHUNK, TICKS_PER_CHUNK)
    layout, recorded = record(ticks, stage.seconds(RECORDING_S, 0.03))
    bytes_each, lost = _stored(stage, "recorded from this machine's probes", layout, recorded)
    model = machine_values(100, seed=1)
    _stored(stage, "model of the load generator", machine_layout(100), np.vstack([model] * (ticks // TICKS)))
    report.target("size.bytes_a_sample", bytes_each, "bytes", "<= 1.2")
    report.target("size.values_lost", lost, "values", "<= 0")


def record(ticks: int, pause: float) -> tuple[Layout, NDArray[np.float64]]:
    """Read the probes that are read every 10 s; ticks x series, NaN where a series was absent."""
    probes = [probe for probe in discover_probes(plugins=()).probes if probe.default_interval_s == TICK_MS / 1000]
    _read(probes)  # rates need a reading before the first
    rows: list[dict[Key, Reading]] = []
    for _ in range(ticks):
        rows.append(_read(probes))
        time.sleep(pause)
    series: dict[Key, Series] = {}
    for row in rows:
        for key, reading in row.items():
            series.setdefault(key, reading.series)
    values = np.array([[row[key].value if key in row else np.nan for key in series] for row in rows])
    return make_layout(tuple(series.values())), values


def _read(probes: Sequence[Probe]) -> dict[Key, Reading]:
    return {(reading.name, reading.labels): reading for probe in probes for reading in measure(probe).readings}


def _stored(stage: Stage, label: str, layout: Layout, values: NDArray[np.float64]) -> tuple[float, int]:
    """Store as ingest does, compact as the Master does; bytes a sample, and how many values are not what they were."""
    ticks, series = values.shape
    present = int(np.count_nonzero(~np.isnan(values)))
    fleet = stage.fleet(stage.sizes()[0])
    with stage.place("size") as folder, Database.open(load({"data_dir": str(fleet.check_out(folder))}).dsn) as database:
        segments = _append(database, fleet.members[0][1], layout, values)
        cpu = time.process_time()
        _compact(database)
        cpu = time.process_time() - cpu
        chunks, after = _read_back(database, folder)
    lost = _count_lost(values, after)
    stage.report.row(
        label,
        series,
        ticks,
        segments / present,
        chunks / present,
        cpu / present * 1e9,
        "yes" if not lost else f"NO: {lost}",
    )
    return chunks / present, lost


def _count_lost(before: NDArray[np.float64], after: NDArray[np.float64]) -> int:
    """Values that are not the same to the last bit; an absent one only has to be absent."""
    if before.shape != after.shape:
        return before.size
    same = (before.view(np.int64) == after.view(np.int64)) | (np.isnan(before) & np.isnan(after))
    return int(np.count_nonzero(~same))


def _append(database: Database, tenant_id: int, layout: Layout, values: NDArray[np.float64]) -> int:
    with database.write() as transaction:
        number = transaction.layouts.insert_missing((layout,))[layout.id]
    total = 0
    for tick, row in enumerate(values):
        at = FIRST_MS + tick * TICK_MS
        segment = encode_segment(
            FrameTable.of_frames([Frame(tenant_id, number, tick + 1, at, (at,), row.astype("<f8").tobytes())])
        )
        total += len(segment.data)
        with database.write() as transaction:
            transaction.segments.append(
                segment.data, received_ms=at, frames=1, samples=segment.summary.samples, first_ms=at, last_ms=at
            )
    return total


def _compact(database: Database) -> None:
    compactor = Compactor(CompactionPolicy(window_ms=1_000))
    while compactor.step(database, FIRST_MS + DAY_MS):
        pass


def _read_back(database: Database, folder: Path) -> tuple[int, NDArray[np.float64]]:
    with database.read() as transaction:
        assert transaction.segments.totals().segments == 0, f"segments are left in {folder}"
        stored = transaction.chunks.received_between(0, FIRST_MS + DAY_MS, None, None, 1_000, max_span_ms=DAY_MS)
    decoded = sorted((decode_chunk(chunk.data) for chunk in stored), key=lambda one: int(one[0][0]))
    return sum(len(chunk.data) for chunk in stored), np.vstack([values for _, values in decoded])
