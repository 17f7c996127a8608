"""U5 to U7: readers that stop, dishonest ends, idle connections, and what other Tenants feel of bulk transfers."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.reporting import percentile
from benchmarks.stage import CONNECT_S, QUIET, Stage
from benchmarks.tunnels import work
from benchmarks.tunnels.ways import Way, our_way, target
from tests.servers.dishonest_tunnels import LyingPair, Peak, flood
from tests.servers.master import TRUST_DOMAIN, MasterProcess, running_master
from tests.servers.tunnelling import ROOM, TunnelledTenant, tunnelled_tenant
from tests.servers.wire_tunnels import opened_tunnel, tunnel_tenant

MIB: Final = 1 << 20
ENDLESS: Final = 1 << 40
SETTLED_S: Final = 5.0
BULK: Final = 8
OTHERS: Final = 100
INTERVAL_S: Final = 1.0


def run(stage: Stage) -> None:
    """Print the rows and targets of U5 to U7."""
    _stalled(stage)
    _dishonest(stage)
    _idle(stage)
    _others(stage)


@contextmanager
def _setting(stage: Stage) -> Iterator[tuple[TunnelledTenant, Way]]:
    with (
        stage.place("tunnels") as folder,
        target() as port,
        running_master(folder, *QUIET, *ROOM) as master,
        tunnelled_tenant(master, folder / "measured") as tenant,
        our_way(tenant, port) as way,
    ):
        work.download(way.port, MIB)  # code is loaded and the relay's connection is open before anything is compared
        yield tenant, way


def _stalled(stage: Stage) -> None:
    """Downloads whose reader stops at once, and uploads to a target that never reads."""
    report = stage.report
    report.title("U5 readers that stop: growth of resident memory, MiB")
    report.row("", "Master", "daemon", "both, each")
    sizes = (1, 10) if stage.short else (1, 10, 50, 200)
    each = whole = 0.0
    for count in sizes:
        with _setting(stage) as (tenant, way), contextlib.ExitStack() as stack:
            before = {name: machine.resident_bytes(pid) for name, pid in tenant.processes.items()}
            for number in range(count):
                action = b"D" if number % 2 == 0 else b"S"
                connection = stack.enter_context(work.connect(way.port, action, ENDLESS))
                if action == b"S":
                    _fill(connection)
            time.sleep(stage.seconds(SETTLED_S))
            grown = {name: (machine.resident_bytes(pid) - before[name]) / MIB for name, pid in tenant.processes.items()}
            whole = sum(grown.values())
            each = max(each, whole / count)
            report.row(f"{count} connections", grown["Master"], grown["daemon"], whole / count)
    report.target("tunnels.stalled_mebibytes_each", each, "MiB", "<= 16")
    report.target("tunnels.stalled_mebibytes_of_200", whole, "MiB", "<= 512")


def _fill(connection: socket.socket) -> None:
    """Send until nothing is taken any more."""
    connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            connection.sendall(bytes(MIB))


def _dishonest(stage: Stage) -> None:
    """Connections whose two ends promise everything and read nothing. First both say what they may, then both honour no credits."""
    report, count = stage.report, 20 if stage.short else 100
    report.title(f"{count} connections whose ends are both dishonest: peak of the Master's resident memory, MiB")
    report.row("", "growth")
    most = 0.0
    for label, heeds in (("both say what they may", True), ("both honour no credits", False)):
        with stage.place("dishonest") as folder, running_master(folder, *QUIET, *ROOM) as master:
            grown = asyncio.run(_lied_to(master, count, stage.seconds(SETTLED_S), heeds=heeds)) / MIB
            most = max(most, grown)
            report.row(label, grown)
    report.target("tunnels.dishonest_mebibytes", most, "MiB", "<= 64")


async def _lied_to(master: MasterProcess, count: int, seconds: float, *, heeds: bool) -> int:
    """By how many bytes the Master grew at most."""
    async with tunnel_tenant(master, "lies") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        pairs = [await LyingPair.open(tunnel, tenant) for _ in range(count)]
        assert master.process is not None
        peak = Peak(master.process.pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for pair in pairs:
                    if heeds:
                        group.create_task(pair.say_all_that_is_allowed())
                    else:
                        group.create_task(flood(pair.there))
                        group.create_task(flood(pair.operator))
        await asyncio.sleep(seconds)
        return peak.growth()


def _idle(stage: Stage) -> None:
    report = stage.report
    report.title("U6 idle connections through a tunnel: memory of the Master, and how fast they are opened")
    report.row("", "kB each", "opened/s", "per CPU s of the Master")
    each = rate = 0.0
    for count in (10, 50) if stage.short else (100, 300, 1_000):
        with _setting(stage) as (tenant, way), contextlib.ExitStack() as stack:
            pid = tenant.processes["Master"]
            before, cpu, begun = machine.resident_bytes(pid), machine.cpu_seconds(pid), time.monotonic()
            for _ in range(count):
                connection = stack.enter_context(work.connect(way.port, b"E"))
                connection.sendall(work.MESSAGE)
                connection.recv(len(work.MESSAGE), socket.MSG_WAITALL)
            cpu, seconds = machine.cpu_seconds(pid) - cpu, time.monotonic() - begun
            time.sleep(stage.seconds(SETTLED_S))
            each = (machine.resident_bytes(pid) - before) / count / 1000
            rate = count / cpu
            report.row(f"{count:,} connections", each, count / seconds, rate)
    report.target("tunnels.idle_kilobytes_each", each, "kB", "<= 100")
    report.target("tunnels.opened_a_second_and_core", rate, "1/s", ">= 100")


def _others(stage: Stage) -> None:
    """How long other Tenants' batches take to be acknowledged, without and beside bulk transfers of one."""
    report = stage.report
    report.title(
        f"U7 other Tenants ({OTHERS} links, a batch a second each) beside {BULK} downloads, ms until acknowledged"
    )
    report.row("", "p50", "p99", "max")
    source = FrameSource.of(10)
    with (
        stage.master(OTHERS, *QUIET, *ROOM) as (master, fleet),
        stage.place("tunnels") as folder,
        target() as port,
        tunnelled_tenant(master, folder / "measured") as tenant,
        our_way(tenant, port) as way,
    ):
        generator = Generator(master.link_address, TRUST_DOMAIN, fleet.tenants(), source)
        try:
            generator.connect_all(CONNECT_S)
            _row(stage, generator, "quiet")
            with work.bulk(way.port, BULK):
                p99 = _row(stage, generator, "beside bulk")
        finally:
            generator.close()
    report.target("tunnels.others_p99_beside_bulk", p99, "ms", "<= 250")


def _row(stage: Stage, generator: Generator, label: str) -> float:
    generator.keep_latencies = True
    generator.latencies.clear()
    generator.pace(INTERVAL_S, stage.seconds(15.0))
    generator.calm()
    milliseconds = [1000 * seconds for seconds in generator.latencies]
    p99 = percentile(milliseconds, 0.99)
    stage.report.row(label, percentile(milliseconds, 0.5), p99, max(milliseconds))
    return p99
