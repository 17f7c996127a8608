"""T3: from the moment that a Tenant sends a sample to the moment that it reads the acknowledgement of its durable transaction."""

import itertools
import time
from typing import Final

from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.reporting import percentile
from benchmarks.stage import QUIET, Stage, measure, pid_of

SERIES: Final = 100
INTERVAL_S: Final = 10.0
TENANTS: Final = 10_000
IDLE_GAP_S: Final = 0.02
NOT_CLAIMED: Final = "until the acknowledgement after COMMIT; no rules in the Master yet, so no sample changes a state"


def run(stage: Stage) -> None:
    """Print the rows and targets of T3."""
    report = stage.report
    report.title("T3 latency: sample sent -> acknowledged, durable (mTLS), milliseconds")
    report.row("", "frames/s", "p50", "p99", "max", "Master's core")
    source = FrameSource.of(SERIES)
    idle = _idle(stage, source)
    busiest = 0.0
    for links in stage.sizes():
        busiest = _paced(stage, source, links)
    report.target("latency.p50_idle", idle, "ms", "<= 5", reason=NOT_CLAIMED)
    report.target("latency.p99_at_10000_tenants", busiest, "ms", "<= 250", reason=NOT_CLAIMED)


def _idle(stage: Stage, source: FrameSource) -> float:
    links = stage.sizes()[0]
    with stage.links(links, source, *QUIET) as (master, generator):
        generator.keep_latencies = True

        def one_at_a_time() -> None:
            end = time.monotonic() + stage.seconds(10.0)
            for tenant in itertools.cycle(generator.tenants):
                generator.send_batch(tenant)
                generator.calm()
                generator.run_for(IDLE_GAP_S)
                if time.monotonic() > end:
                    return

        busy = measure(pid_of(master), one_at_a_time)
        return _row(stage, f"{links:,} links, one batch at a time", generator, busy.wall, busy.server_share)[0]


def _paced(stage: Stage, source: FrameSource, links: int) -> float:
    """The load of 10,000 Tenants with a frame every 10 s; where there are fewer links each sends the more often."""
    interval = INTERVAL_S * links / TENANTS
    with stage.links(links, source, *QUIET) as (master, generator):
        generator.pace(interval, stage.seconds(5.0, 0.5))
        generator.calm()
        generator.keep_latencies = True

        def work() -> None:
            generator.pace(interval, stage.seconds(20.0))
            generator.calm()

        busy = measure(pid_of(master), work)
        label = f"{links:,} links with the load of {TENANTS:,}"
        return _row(stage, label, generator, busy.wall, busy.server_share)[1]


def _row(stage: Stage, label: str, generator: Generator, wall: float, share: float) -> tuple[float, float]:
    milliseconds = [1000 * seconds for seconds in generator.latencies]
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    stage.report.row(label, len(milliseconds) / wall, p50, p99, max(milliseconds), share)
    return p50, p99
