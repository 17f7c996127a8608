"""What every benchmark stands on: a folder of its own, Masters with a fleet of Tenants, and the pinning of cores."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.load.fleet import Fleet, enrol_fleet
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.reporting import Report
from tests.servers.master import TRUST_DOMAIN, MasterProcess

CONNECT_S = 300.0
QUIET = ("log_level=warning", "stale_after=1h", "lost_after=2h")
"""Settings under which nothing happens in a Master but what is measured."""


@dataclass
class Stage:
    """One run of the benchmarks. ``short`` asks for sizes and times that show only that everything works."""

    report: Report
    folder: Path
    short: bool
    peers: bool = True
    """Whether to measure other servers too."""
    _fleets: dict[int, Fleet] = field(default_factory=dict)

    def seconds(self, whole: float, short: float = 1.0) -> float:
        """How long to measure."""
        return short if self.short else whole

    def sizes(self) -> tuple[int, ...]:
        """How many links: what growth is shown over."""
        return (20, 50) if self.short else (100, 1_000, 5_000)

    def size(self, whole: int, short: int) -> int:
        """How many links where one size is enough."""
        return short if self.short else whole

    def fleet(self, count: int) -> Fleet:
        """A Master's data folder with so many Tenants; the same one each time."""
        if count not in self._fleets:
            begun = time.monotonic()
            self._fleets[count] = enrol_fleet(self.folder / f"fleet-{count}", count)
            self.report.note(f"set-up: {count:,} Tenants registered and enrolled in {time.monotonic() - begun:.1f} s")
        return self._fleets[count]

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """An empty folder that is gone afterwards."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def master(
        self, links: int, *settings: str, prepare: Callable[[Path], None] | None = None
    ) -> Iterator[tuple[MasterProcess, Fleet]]:
        """A Master with so many Tenants, on the cores of servers; killed at the end. ``prepare`` gets its data folder before."""
        fleet = self.fleet(links)
        with self.place("master") as folder:
            data = fleet.check_out(folder)
            if prepare is not None:
                prepare(data)
            master = MasterProcess(data, fleet.token, settings)
            try:
                with machine.pinned(machine.SERVER_CORES):
                    master.start()
                with machine.pinned(machine.LOAD_CORES):
                    yield master, fleet
            finally:
                master.kill()

    @contextlib.contextmanager
    def links(
        self, links: int, source: FrameSource, *settings: str, prepare: Callable[[Path], None] | None = None
    ) -> Iterator[tuple[MasterProcess, Generator]]:
        """A Master with so many open links."""
        with self.master(links, *settings, prepare=prepare) as (master, fleet):
            generator = Generator(master.link_address, TRUST_DOMAIN, fleet.tenants(), source)
            try:
                generator.connect_all(CONNECT_S)
                yield master, generator
            finally:
                generator.close()


def pid_of(master: MasterProcess) -> int:
    """The process of a running Master."""
    assert master.process is not None
    return master.process.pid


def measure(pid: int, action: Callable[[], object]) -> machine.Busy:
    """What an action cost a server's process tree and this process."""
    wall, server, load = time.monotonic(), machine.cpu_seconds(pid), time.process_time()
    action()
    return machine.Busy(time.monotonic() - wall, machine.cpu_seconds(pid) - server, time.process_time() - load)
