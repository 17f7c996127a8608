"""T1: durable samples a Master CPU-second over mTLS, against Prometheus, VictoriaMetrics and Zabbix with the same samples.

One batch is one frame of 100 samples, acknowledged after its transaction is on disk. Everybody judges one series of each Tenant by
the same rule (`benchmarks.rule`).
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.load.null import null_server
from benchmarks.peers.installing import PeerMissing
from benchmarks.peers.prometheus import measure_prometheus, measure_victoria_metrics
from benchmarks.peers.zabbix import measure_zabbix
from benchmarks.rule import keep_rule
from benchmarks.stage import CONNECT_S, QUIET, Stage, measure, pid_of
from tests.servers.master import TRUST_DOMAIN

SERIES: Final = 100
WINDOW: Final = 8
PEER_S: Final = 60.0
"""How long a peer is measured: its periodic work (blocks, merges, evaluation of rules, its collector of garbage) is to be in it."""
NEVER: Final = ("compaction.interval=1d",)
AT_ONCE: Final = ("compaction.interval=1s", "compaction.age=15s")
"""With 1,000 links and some 8,000 batches a second that is the length of chunks in service: 120 ticks, there of 10 s each."""
Peer = Callable[[Path, FrameSource, int, float], tuple[machine.Busy, int]]
PEERS: Final[tuple[tuple[str, str, str, int, Peer], ...]] = (
    ("ingest.vs_prometheus", "Prometheus, remote write", ">= 10", 1_000, measure_prometheus),
    ("ingest.vs_victoria_metrics", "VictoriaMetrics, remote write", ">= 2.4", 1_000, measure_victoria_metrics),
    ("ingest.vs_zabbix", "Zabbix trapper + PostgreSQL", ">= 34", 100, measure_zabbix),
)


def run(stage: Stage) -> None:
    """Print the rows and targets of T1."""
    report = stage.report
    report.title(
        "T1 ingest: durable samples a server CPU-second (mTLS, one rule, SQLite synchronous=FULL, acknowledged after COMMIT)"
    )
    report.row("", "samples/CPU-s", "batches/CPU-s", "acks/batch", "Master's core", "load's core")
    source = FrameSource.of(SERIES)
    reference = stage.size(1_000, 50)
    for links in stage.sizes():
        _saturated(stage, source, links, 1, NEVER)
    _saturated(stage, source, reference, 10, NEVER)
    counted_in = _saturated(stage, source, reference, 1, AT_ONCE, drain=True)
    limit = _limit(stage, source, reference)
    report.row("the Master, compaction counted in, against it", counted_in / limit)
    report.note("The load is not the bottleneck: the same generator gets far more into a server that stores nothing.")
    report.title(
        "T1 ingest: the same samples into other servers, same core and rule (plain HTTP or TCP, not durable at the answer)"
    )
    for name, label, target, tenants, peer in PEERS:
        tenants = stage.size(tenants, min(tenants, 200))
        with stage.place("peer") as folder:
            try:
                if not stage.peers:
                    raise PeerMissing("nobody wanted it measured (--without-peers)")
                busy, samples = peer(folder, source, tenants, stage.seconds(PEER_S))
            except PeerMissing as missing:
                report.loud(f"{label} is NOT measured, its row is not claimed: {missing}")
                report.target(name, None, "ratio", target, reason=str(missing))
                continue
        rate = samples / busy.server
        report.row(f"{label}, {tenants:,} hosts", rate, rate / SERIES, "-", busy.server_share, busy.load_share)
        report.target(name, counted_in / rate, "ratio", target)


def _limit(stage: Stage, source: FrameSource, links: int) -> float:
    """What grpc.aio and TLS cost alone: the same load into a server that acknowledges every fourth batch and does nothing."""
    fleet = stage.fleet(links)
    with null_server(fleet.data) as (pid, address):
        generator = Generator(address, TRUST_DOMAIN, fleet.tenants(), source)
        try:
            generator.connect_all(CONNECT_S)
            generator.saturate(WINDOW)
            generator.run_for(stage.seconds(3.0, 0.5))
            samples, batches, acks = generator.samples, generator.batches, generator.acks
            busy = measure(pid, lambda: generator.run_for(stage.seconds(15.0)))
        finally:
            generator.close()
    rate = (generator.samples - samples) / busy.server
    each = (generator.acks - acks) / (generator.batches - batches)
    label = f"{links:,} links, bare grpc.aio with TLS"
    stage.report.row(label, rate, rate / SERIES, each, busy.server_share, busy.load_share)
    return rate


def _saturated(
    stage: Stage, source: FrameSource, links: int, frames: int, compaction: tuple[str, ...], *, drain: bool = False
) -> float:
    """Samples a CPU-second under as much load as the Master takes; with ``drain`` until all is compacted."""
    rule = partial(keep_rule, source=source)
    with stage.links(links, source, *QUIET, *compaction, prepare=rule) as (master, generator):
        pid = pid_of(master)
        generator.frames = frames
        generator.saturate(WINDOW)
        if not drain:
            generator.run_for(stage.seconds(3.0, 0.5))
        samples, batches, acks = generator.samples, generator.batches, generator.acks
        busy = measure(pid, lambda: generator.run_for(stage.seconds(15.0)))
        after = 0.0
        if drain:
            after = measure(pid, lambda: _drain(generator, master.data / "master.db")).server
        samples, batches, acks = generator.samples - samples, generator.batches - batches, generator.acks - acks
    rate = samples / (busy.server + after)
    label = f"{links:,} links, {frames} frame{'s' * (frames > 1)} a batch" + (", compacted" if drain else "")
    stage.report.row(label, rate, rate / frames / SERIES, acks / batches, busy.server_share, busy.load_share)
    return rate


def _drain(generator: Generator, database: Path) -> None:
    """Until everything is acknowledged, and no segment waits for compaction."""
    generator.calm()
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        while connection.execute("SELECT count(*) FROM segments").fetchone()[0]:
            generator.run_for(0.25)
    finally:
        connection.close()
