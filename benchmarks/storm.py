"""T5: all daemons come back after a restart of the Master; none may be refused.

A daemon is back when its first batch on the new link is acknowledged: then its Begin has been taken as well. It tries again after
pauses with the jitter of the real daemon. The clock runs from the moment that the new Master answers.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.stage import QUIET, Stage, pid_of
from tests.servers.master import MasterProcess

SERIES: Final = 100
BACK_S: Final = 180.0
TARGETS: Final = {1_000: "<= 5", 5_000: "<= 15"}


def run(stage: Stage) -> None:
    """Print the rows and targets of T5."""
    report = stage.report
    report.title("T5 storm: seconds until every daemon is back after a restart of the Master (mTLS)")
    report.row("", "half are back", "all are back", "since the stop", "refused", "CPU-ms a daemon", "load's core")
    source = FrameSource.of(SERIES)
    for links in stage.sizes():
        for graceful in (False, True):
            seconds, refused = _restart(stage, source, links, graceful=graceful)
            if links in TARGETS:
                kind = "graceful" if graceful else "killed"
                report.target(f"storm.{kind}_{links}", seconds, "s", TARGETS[links])
                report.target(f"storm.{kind}_{links}_refused", refused, "links", "<= 0")


def _restart(stage: Stage, source: FrameSource, links: int, *, graceful: bool) -> tuple[float, int]:
    # The slots of a graceful stop are spread over as long as the target gives them.
    spread = f"reconnect_spread={2 if links <= 1_000 else 10}s"
    with stage.links(links, source, *QUIET, spread) as (master, generator):
        generator.reconnect = generator.prove = True
        generator.parallel_connects = links
        stopped = time.monotonic()
        _stop(master, generator, graceful=graceful)
        generator.refused = 0
        _start(master, generator)
        begun, load = time.monotonic(), time.process_time()
        server = machine.cpu_seconds(pid_of(master))
        generator.run(lambda: generator.proven >= links / 2, BACK_S)
        half = time.monotonic() - begun
        generator.run(lambda: generator.proven == links, BACK_S)
        every = time.monotonic() - begun
        cost = (machine.cpu_seconds(pid_of(master)) - server) / links * 1000
        label = f"{links:,} links, " + ("graceful, " + spread if graceful else "kill -9")
        stage.report.row(
            label,
            half,
            every,
            time.monotonic() - stopped,
            generator.refused,
            cost,
            (time.process_time() - load) / every,
        )
        return every, generator.refused


def _stop(master: MasterProcess, generator: Generator, *, graceful: bool) -> None:
    if not graceful:
        master.kill()
        return
    assert master.process is not None
    master.process.terminate()
    while master.process.poll() is None:
        generator.turn(0.02)


def _start(master: MasterProcess, generator: Generator) -> None:
    """Start the Master while the daemons keep trying."""
    with ThreadPoolExecutor(1) as executor:
        starting = executor.submit(_start_pinned, master)
        while not starting.done():
            generator.turn(0.02)
        starting.result()


def _start_pinned(master: MasterProcess) -> None:
    with machine.pinned(machine.SERVER_CORES):
        master.start()
