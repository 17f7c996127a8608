"""The daemon's own cost at default intervals: a real one, joined to a real Master, active."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.stage import Stage
from tests.servers.master import MasterProcess, running_master
from tests.servers.wire_tenant import create_tenant, move

PROGRAM: Final = Path(sys.executable).with_name("tenantry-daemon")
START_S: Final = 30.0


def run(stage: Stage) -> None:
    """Print the rows and targets of the daemon."""
    report = stage.report
    report.title("Daemon: its own cost at default intervals, Active, connected to a Master")
    report.row("", "% of a core", "resident, MB", "series")
    with stage.place("daemon") as folder, running_master(folder) as master:
        share, resident, series = _measure(master, folder / "tenant", stage.seconds(120.0, 5.0))
    report.row("tenantry-daemon", 100 * share, resident / 1e6, series)
    report.target("daemon.percent_of_a_core", 100 * share, "%", "< 1")
    report.target("daemon.resident_megabytes", resident / 1e6, "MB", "< 60")


def _measure(master: MasterProcess, data: Path, seconds: float) -> tuple[float, int, int]:
    created = asyncio.run(create_tenant(master, "measured"))
    subprocess.run(
        [PROGRAM, "join", "-", "--data", str(data)],
        input=created.enrolment.join_string,
        text=True,
        check=True,
        capture_output=True,
    )
    with (data.parent / "daemon.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "run", "--data", str(data)], stdout=log, stderr=log)
    try:
        _until_connected(data)
        asyncio.run(move(master, created.tenant.guid, "Activate"))
        time.sleep(min(10.0, seconds))  # the first reading of every probe is part of the start
        cpu, wall = machine.cpu_seconds(process.pid), time.monotonic()
        time.sleep(seconds)
        share = (machine.cpu_seconds(process.pid) - cpu) / (time.monotonic() - wall)
        probes = _status(data).get("probes", {})
        series = sum(probe.get("readings", 0) for probe in probes.values())
        return share, machine.resident_bytes(process.pid), series
    finally:
        process.terminate()
        process.wait(START_S)


def _until_connected(data: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _status(data).get("link", {}).get("connected"):
        if time.monotonic() > deadline:
            raise RuntimeError("the daemon did not connect")
        time.sleep(0.2)


def _status(data: Path) -> dict[str, dict[str, dict[str, int]]]:
    done = subprocess.run(
        [PROGRAM, "status", "--json", "--data", str(data)], capture_output=True, text=True, check=False
    )
    try:
        status: dict[str, dict[str, dict[str, int]]] = json.loads(done.stdout)
    except ValueError:
        return {}
    return status
