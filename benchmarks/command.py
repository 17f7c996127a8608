"""T8: an operator moves many Tenants to another state by one command; every daemon has said on its link that it works by it.

Shown apart: a call for each Tenant, and a new configuration, which daemons confirm by a report that the Master stores.
"""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from benchmarks.load.tenant import LoadTenant
from benchmarks.stage import QUIET, Stage, pid_of
from tenantry.protocol.messages import ConfigurationReport, FromDaemon, StateReport, TenantState
from tenantry.transport.daemon_messages import encode_from_daemon
from tenantry.transport.wire_values import STATES
from tenantry.v1 import link_service_pb2 as pb
from tests.servers.master import MasterProcess

SERIES: Final = 10
DONE_S: Final = 120.0
TENANTS: Final = 1_000
VERBS: Final = ("maintain", "activate")
VERBS_OF_EACH: Final = ("maintain each", "activate each")


def run(stage: Stage) -> None:
    """Print the rows and targets of T8."""
    report = stage.report
    report.title("T8 command: one change for all Tenants, seconds from the first call")
    report.row("", "first told", "last told", "calls answered", "all acknowledged", "Master's CPU")
    for links in stage.sizes()[: 2 if not stage.short else 1]:
        acknowledged = _commands(stage, links)
        if links in (TENANTS, stage.size(0, links)):
            report.target("command.seconds_to_1000", acknowledged, "s", "<= 0.3")


def _commands(stage: Stage, links: int) -> float:
    with (
        stage.links(links, FrameSource.of(SERIES), *QUIET) as (master, generator),
        _operator(master, generator) as order,
    ):
        waiting = _Receipts(generator)
        rounds = 1 if stage.short else 3
        pid = pid_of(master)
        seconds = min(_change_state(stage, pid, generator, waiting, order, VERBS) for _ in range(rounds))
        _change_state(stage, pid, generator, waiting, order, VERBS_OF_EACH)
        _configure(stage, master, generator, waiting, order)
        return seconds


class _Receipts:
    """When each link was told something; the link answers at once, as a daemon does."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.told: list[float] = []
        generator.on_push = self._take

    def _take(self, tenant: LoadTenant, response: pb.ConnectResponse) -> None:
        self.told.append(time.monotonic())
        report: FromDaemon
        if response.WhichOneof("message") == "configuration":
            report = ConfigurationReport(response.configuration.version)
        else:
            report = StateReport(STATES.member(response.state.state, TenantState))
        self._generator.send(tenant, encode_from_daemon(report).SerializeToString())


def _change_state(
    stage: Stage,
    pid: int,
    generator: Generator,
    receipts: _Receipts,
    order: Callable[[str], "_Order"],
    verbs: tuple[str, ...],
) -> float:
    slowest = 0.0
    for verb in verbs:
        receipts.told.clear()
        busy = machine.cpu_seconds(pid)
        running = order(verb)
        generator.run(lambda: len(receipts.told) >= len(generator.tenants), DONE_S)
        begun, answered = running.wait(generator)
        last = receipts.told[-1]
        acknowledged = max(last, answered) - begun
        stage.report.row(
            f"{len(generator.tenants):,} Tenants, {verb}",
            receipts.told[0] - begun,
            last - begun,
            answered - begun,
            acknowledged,
            machine.cpu_seconds(pid) - busy,
        )
        slowest = max(slowest, acknowledged)
    return slowest


def _configure(
    stage: Stage, master: MasterProcess, generator: Generator, receipts: _Receipts, order: Callable[[str], "_Order"]
) -> None:
    receipts.told.clear()
    running = order("configure")
    generator.run(lambda: len(receipts.told) >= len(generator.tenants), DONE_S)
    begun, answered = running.wait(generator)
    query = "SELECT count(*) FROM tenants WHERE running_configuration >= 2"
    with closing(sqlite3.connect(f"file:{master.data / 'master.db'}?mode=ro", uri=True)) as connection:
        generator.run(lambda: connection.execute(query).fetchone()[0] == len(generator.tenants), DONE_S)
    stage.report.row(
        f"{len(generator.tenants):,} Tenants, configuration and report",
        receipts.told[0] - begun,
        receipts.told[-1] - begun,
        answered - begun,
        time.monotonic() - begun,
    )


class _Order:
    """A command that is being carried out by the operator's process."""

    def __init__(self, process: "subprocess.Popen[str]", verb: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._answers = process.stdout
        process.stdin.write(f"{verb}\n")
        process.stdin.flush()

    def wait(self, generator: Generator) -> tuple[float, float]:
        """When the first call went out, and when the last was answered."""
        generator.turn(0.0)
        begun, answered = json.loads(self._answers.readline())
        return begun, answered


@contextmanager
def _operator(master: MasterProcess, generator: Generator) -> Iterator[Callable[[str], _Order]]:
    """A process that can command all Tenants; it shares the load's cores."""
    with machine.pinned(machine.LOAD_CORES):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.commander"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
    assert process.stdin is not None and process.stdout is not None
    order = {
        "address": master.api_address,
        "root": master.root.decode(),
        "token": master.token,
        "guids": [tenant.guid for tenant in generator.tenants],
    }
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the operator's process did not start")
        yield lambda verb: _Order(process, verb)
    finally:
        process.kill()
        process.wait()
