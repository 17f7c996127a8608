"""T4: memory of the Master for each connected daemon over mTLS."""

from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator, LoadStalled
from benchmarks.stage import CONNECT_S, QUIET, Stage, pid_of
from tests.servers.master import TRUST_DOMAIN

SERIES: Final = 100
SETTLED_S: Final = 10.0
"""How long nothing is sent before the look: after a storm the Master gives back what it no longer needs."""


def run(stage: Stage) -> None:
    """Print the rows and targets of T4."""
    report = stage.report
    report.title("T4 memory of the Master (resident) for each connected daemon over mTLS that has sent data")
    report.row("", "before, MB", "after, MB", "kB a link", "10,000 take, MB")
    source = FrameSource.of(SERIES)
    each = 0.0
    for links in stage.sizes():
        with stage.master(links, *QUIET) as (master, fleet):
            pid = pid_of(master)
            before = machine.resident_bytes(pid)
            generator = Generator(master.link_address, TRUST_DOMAIN, fleet.tenants(), source)
            generator.prove = True
            try:
                generator.connect_all(CONNECT_S)
                generator.run(lambda: generator.proven == links, CONNECT_S)  # noqa: B023 - runs before the next round
                generator.pace(1.0, stage.seconds(5.0, 1.0))
                generator.calm()
                generator.run_for(stage.seconds(SETTLED_S))
                if generator.open != links:
                    raise LoadStalled(f"of {links} links {generator.open} are left")
                after = machine.resident_bytes(pid)
            finally:
                generator.close()
        each = (after - before) / links / 1000
        report.row(f"{links:,} links", before / 1e6, after / 1e6, each, before / 1e6 + 10 * each)
    report.target("memory.kilobytes_a_link", each, "kB", "<= 100")
