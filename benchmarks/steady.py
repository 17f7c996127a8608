"""T6: what the steady load of 10,000 Tenants costs the Master: a frame of 100 series each every 10 seconds.

The wake-ups of the links are measured with heartbeats in the place of frames: as many messages, nothing to store or acknowledge.
"""

from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.stage import QUIET, Stage, measure, pid_of

SERIES: Final = 100
INTERVAL_S: Final = 10.0
TENANTS: Final = 10_000
AT_ONCE: Final = ("compaction.interval=1s", "compaction.age=10s")


def run(stage: Stage) -> None:
    """Print the rows and targets of T6."""
    report = stage.report
    report.title(
        f"T6 steady load: a frame of {SERIES} series from each of {TENANTS:,} Tenants every {INTERVAL_S:.0f} s, part of a core"
    )
    report.row("", "frames/s", "frames", "heartbeats", "beyond them", "with compaction", "load's core")
    source = FrameSource.of(SERIES)
    beyond = 0.0
    for links in (*stage.sizes(), *(() if stage.short else (TENANTS,))):
        beyond = _share(stage, source, links)
    report.note(
        "Where there are fewer links than Tenants each link sends the more often, so that the frames a second are the same."
    )
    report.target("steady.core_share_beyond_wakeups", beyond, "cores", "<= 0.2")


def _share(stage: Stage, source: FrameSource, links: int) -> float:
    interval = INTERVAL_S * links / TENANTS
    seconds = stage.seconds(20.0)
    with stage.links(links, source, *QUIET, "compaction.interval=1d") as (master, generator):
        pid = pid_of(master)
        generator.pace(interval, stage.seconds(5.0, 0.5))
        generator.calm()
        samples = generator.samples
        frames = measure(pid, lambda: _work(generator, interval, seconds))
        count = (generator.samples - samples) / source.samples
        heartbeats = measure(pid, lambda: generator.pace(interval, seconds, heartbeats=True))
    compacted = _compacted(stage, source, links, interval, seconds)
    beyond = frames.server_share - heartbeats.server_share
    stage.report.row(
        f"{links:,} links",
        count / frames.wall,
        frames.server_share,
        heartbeats.server_share,
        beyond,
        compacted.server_share - heartbeats.server_share,
        frames.load_share,
    )
    return beyond


def _compacted(stage: Stage, source: FrameSource, links: int, interval: float, seconds: float) -> machine.Busy:
    """The same, with compaction of everything that is older than ten seconds."""
    with stage.links(links, source, *QUIET, *AT_ONCE) as (master, generator):
        generator.pace(interval, stage.seconds(15.0, 0.5))
        return measure(pid_of(master), lambda: _work(generator, interval, seconds))


def _work(generator: Generator, interval: float, seconds: float) -> None:
    generator.pace(interval, seconds)
    generator.calm()
