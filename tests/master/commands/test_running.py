import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.master.commands.program import execute
from tenantry.protocol.failures import EXIT_CONFLICT
from tests.servers.scraping import scrape
from tests.servers.service_manager import ServiceManager

ANYWHERE = ["--api-listen", "127.0.0.1:0", "--link-listen", "127.0.0.1:0", "--monitoring-listen", "127.0.0.1:0"]
ANYWHERE += ["--set", "tunnels_listen=127.0.0.1:0", "--set", "relay_listen=127.0.0.1:0"]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of an initialised Master."""
    path = tmp_path / "data"
    assert execute(["init", "--data", str(path), "--host", "localhost"]) == 0
    capsys.readouterr()
    return path


@contextlib.contextmanager
def running(folder: Path, manager: ServiceManager) -> Iterator[subprocess.Popen[str]]:
    """A Master in a process of its own that has said that it is ready."""
    environment = {**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    command = [sys.executable, "-m", "tenantry.master", "run", "--data", str(folder), *ANYWHERE]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            manager.wait_for("READY=1")
            yield process
        finally:
            process.kill()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """A service manager that listens."""
    with ServiceManager(tmp_path / "notify") as listening:
        yield listening


def test_a_service_from_start_to_stop(
    folder: Path, manager: ServiceManager, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ready, endpoints written, figures served, watchdog fed, second Master refused, stopped by SIGTERM with nothing left."""
    endpoints = folder / "run" / "endpoints.json"
    with running(folder, manager) as process:
        addresses = json.loads(endpoints.read_text())
        for name in ("api", "link"):
            host, _, port = addresses[name].rpartition(":")
            socket.create_connection((host, int(port)), timeout=60).close()
        assert "tenantry_master_links_open 0.0" in scrape(addresses["monitoring"])
        assert manager.wait_for("WATCHDOG=1")
        assert execute(["run", "--data", str(folder), *ANYWHERE]) == EXIT_CONFLICT
        assert f"process {process.pid}" in capsys.readouterr().err
        assert execute(["config", "check", "--data", str(folder), "--set", f"api_listen={addresses['api']}"]) == 0
        process.send_signal(signal.SIGTERM)
        assert manager.wait_for("STOPPING=1")
        _, logs = process.communicate(timeout=60)
        assert process.returncode == 0
    records = [json.loads(line) for line in logs.splitlines()]
    assert [record["event"] for record in records if record["logger"] == "tenantry.master.bootstrap.running"] == [
        "listening",
        "stopped",
    ]
    assert not endpoints.exists()
    assert execute(["token", "list", "--data", str(folder)]) == 0


def test_a_master_that_was_killed_starts_again(folder: Path, manager: ServiceManager) -> None:
    """The lease dies with the process; endpoints that were left behind are replaced."""
    with running(folder, manager) as process:
        process.kill()
        process.communicate(timeout=60)
    before = (folder / "run" / "endpoints.json").read_text()
    with running(folder, manager) as process:
        assert json.loads((folder / "run" / "endpoints.json").read_text()) != json.loads(before)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0
