"""T3: from the moment that a Tenant sends a sample to the moment that an operator's tool reads the state that a rule gave the Tenant.

The state is durable by then: nobody is told before COMMIT. Beside it, in the same run, the time until the Tenant reads the
acknowledgement of its durable batch.
"""

import itertools
import time
from typing import Final

from benchmarks.load.generator import Generator
from benchmarks.load.ruling import RULES, CrossingSource, StateWatch, make_rules, state_watch
from benchmarks.reporting import percentile
from benchmarks.stage import QUIET, Stage, measure, pid_of

SERIES: Final = 100
INTERVAL_S: Final = 10.0
TENANTS: Final = 10_000
IDLE_GAP_S: Final = 0.02
PATIENCE_S: Final = 30.0
CROSSING: Final = 0.01
"""Part of the frames under load that cross a threshold, one way or the other."""


def run(stage: Stage) -> None:
    """Print the rows and targets of T3."""
    report = stage.report
    report.title(f"T3 latency with {RULES} rules (mTLS), milliseconds")
    report.row("", "a second", "p50", "p99", "max", "Master's core")
    source = CrossingSource.of(SERIES)
    idle = _idle(stage, source)
    busiest = 0.0
    for links in stage.sizes():
        busiest = _paced(stage, source, links)
    report.target("latency.p50_idle", idle, "ms", "<= 5")
    report.target("latency.p99_at_10000_tenants", busiest, "ms", "<= 250")


def _idle(stage: Stage, source: CrossingSource) -> float:
    links = stage.sizes()[0]
    with stage.links(links, source, *QUIET) as (master, generator):
        make_rules(master)
        generator.event_time_is_now = generator.keep_latencies = True
        with state_watch(master, generator, source) as watch:
            source.chance[0] = 1.0

            def one_at_a_time() -> None:
                end = time.monotonic() + stage.seconds(10.0)
                for number, tenant in enumerate(itertools.cycle(generator.tenants), 1):
                    generator.send_batch(tenant)
                    generator.run(lambda seen=number: len(watch.latencies) >= seen, PATIENCE_S)  # type: ignore[misc]
                    generator.run_for(IDLE_GAP_S)
                    if time.monotonic() > end:
                        return

            busy = measure(pid_of(master), one_at_a_time)
            return _rows(stage, f"{links:,} links, one at a time", generator, watch, busy.wall, busy.server_share)[0]


def _paced(stage: Stage, source: CrossingSource, links: int) -> float:
    """The load of 10,000 Tenants with a frame every 10 s; where there are fewer links each sends the more often."""
    interval = INTERVAL_S * links / TENANTS
    source.wrong.clear()
    source.crossed.clear()
    source.chance[0] = 0.0
    with stage.links(links, source, *QUIET) as (master, generator):
        make_rules(master)
        generator.event_time_is_now = True
        generator.pace(interval, stage.seconds(5.0, 0.5))
        generator.calm()
        with state_watch(master, generator, source) as watch:
            generator.keep_latencies = True
            source.chance[0] = CROSSING

            def work() -> None:
                generator.pace(interval, stage.seconds(20.0))
                generator.calm()

            busy = measure(pid_of(master), work)
            generator.run_for(1.0)
            label = f"{links:,} links with the load of {TENANTS:,}"
            return _rows(stage, label, generator, watch, busy.wall, busy.server_share)[1]


def _rows(
    stage: Stage, label: str, generator: Generator, watch: StateWatch, wall: float, share: float
) -> tuple[float, float]:
    """Print both; p50 and p99 until the new state was read."""
    _row(stage, f"{label}: acknowledged", generator.latencies, wall, share)
    return _row(stage, f"{label}: state seen", watch.latencies, wall, share)


def _row(stage: Stage, label: str, latencies: list[float], wall: float, share: float) -> tuple[float, float]:
    milliseconds = [1000 * seconds for seconds in latencies]
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    stage.report.row(label, len(milliseconds) / wall, p50, p99, max(milliseconds), share)
    return p50, p99
