"""A failpoint that no run reaches shows nothing: each one in the source must be reached."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from tests.faults.delivery.test_restore import command
from tests.faults.outbox.promises import told
from tests.servers.daemon import REPOSITORY, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.master import TRUST_DOMAIN, running_master
from tests.servers.receiving import running_hook
from tests.servers.telling import LOOPBACK, machine

SOURCES = ("libs", "master_server", "tenant_daemon", "cli")
FAILPOINT = re.compile(r'\bfailpoint\("([a-z_.]+)"\)')


def failpoints_in_the_source() -> set[str]:
    """Every name."""
    return {
        name
        for source in SOURCES
        for file in (REPOSITORY / source).rglob("*.py")
        for name in FAILPOINT.findall(file.read_text())
    }


async def test_every_failpoint_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Init, join, traffic, an alert that is told, a renewal, a backup, a restore: they pass all; a new one needs a path here."""
    log = tmp_path / "failpoints"
    monkeypatch.setenv("TENANTRY_TEST_BUILD", "1")
    monkeypatch.setenv("TENANTRY_FAILPOINTS_LOG", str(log))
    # Arguments, so that `init` runs here, and is not that of a Master which is copied.
    own = ("--trust-domain", TRUST_DOMAIN)
    settings = ("heartbeat_interval=1s", "certificate_lifetime=8s", LOOPBACK)
    with running_hook() as hook, running_master(tmp_path, *settings, arguments=own) as master:
        async with told(master, hook), machine(master) as there:
            await there.send(0.95)
            await eventually(lambda: hook.requests, "a delivery")
        # Likewise for `join`.
        own_log = {"TENANTRY_FAILPOINTS_LOG": str(log)}
        async with running_daemon(master, tmp_path, "one", environment=own_log) as daemon:
            await daemon.acknowledged(3)
            await eventually(lambda: daemon.count_logged("certificate renewed"), "a renewal")
            await command("backup", tmp_path / "backup", "--data", master.data)
        master.kill()
        shutil.move(master.data, tmp_path / "lost")
        await command("restore", tmp_path / "backup", "--data", master.data)
        await asyncio.to_thread(master.start)
    names = failpoints_in_the_source()
    assert len(names) >= 15
    assert names - set(log.read_text().split()) == set()
