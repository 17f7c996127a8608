"""Runs a daemon without a Master: probes, local rules and notifications, kept on this machine's disk."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from tenantry.daemon.config import Settings
from tenantry.daemon.console.console import LocalConsole
from tenantry.daemon.control.server import serve_control
from tenantry.daemon.domain.failures import AlreadyJoined, NotJoined
from tenantry.daemon.domain.standing import Standing
from tenantry.daemon.licences.checking import licence_in_force
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.measuring import Measuring, leased_folder, loop_factory
from tenantry.daemon.operations.standing_alone import LicenceWatch, settle_for_ever
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.tunnels.orders import TunnelOrders
from tenantry.process.files import private_directory
from tenantry.protocol.licences import Licence, LicenceKind
from tenantry.protocol.messages import TenantState

_log = structlog.get_logger(__name__)

HISTORY_AGE_MS = 30 * 86_400_000
"""A history of at most so long; shorter where ``spool.quota`` is used up before."""


class StandAloneDaemon:
    """All parts of a daemon that runs by itself."""

    def __init__(self, settings: Settings, data: Path, licence: Licence, software_version: str) -> None:
        own = private_directory(data / "stand-alone")
        quota = settings.spool.quota
        sizes = SpoolSettings(quota, quota * 3 // 4, max(HISTORY_AGE_MS, settings.spool.tail_age_ms))
        self.data = data
        self.measuring = Measuring(_guid(licence.fingerprint), settings, own, sizes, software_version)
        self.watch = LicenceWatch(
            self.measuring.spool, lambda: licence_in_force(data, LicenceKind.STAND_ALONE), licence
        )
        self.console = LocalConsole(settings.console_listen, self._show)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until a signal or `leave`."""
        measuring, loop = self.measuring, asyncio.get_running_loop()
        measuring.use_workers()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        handlers = {
            "status": self._status,
            "console": self.console.make_link,
            "leave": self._leave,
            "notify": measuring.notify,
            "records": measuring.read_records,
            **TunnelOrders(None).handlers,
        }
        await measuring.conduct.enter_state(TenantState.ACTIVE, "stand-alone")
        measuring.standing = lambda: Standing(licence_end_ms=self.watch.licence.not_after_ms)
        async with measuring.spool.opened(), serve_control(self.data, handlers), self.console.served():
            _log.info("daemon started", mode="stand-alone", version=measuring.software_version, folder=str(self.data))
            measuring.notifier.ready("running stand-alone")
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(measuring.collector.run()),
                    tasks.create_task(measuring.feed_watchdog()),
                    tasks.create_task(settle_for_ever(measuring.spool, measuring.spool.grown)),
                    tasks.create_task(self.watch.run()),
                ]
                await self._stopping.wait()
                measuring.notifier.stopping()
                for one in background:
                    one.cancel()
        _log.info("daemon stopped")
        measuring.leave_hanging_probes()

    async def _status(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        licence = self.watch.licence
        return {
            **await self.measuring.describe(),
            "stand_alone": True,
            "console": self.console.describe(),
            "link": None,
            "licence": {
                "origin": "own",
                "serial": licence.serial,
                "kind": licence.kind.value,
                "holder": licence.holder,
                "not_after_ms": licence.not_after_ms,
                "in_force": self.watch.trouble is None,
                "evaluation": licence.evaluation,
            },
        }

    async def _show(self) -> Mapping[str, Any]:
        """What the local console shows: the status, and what there is beside it."""
        return {**await self._status({}), **self.measuring.describe_content()}

    async def _leave(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._stopping.set()
        return {"delivered": True, "stand_alone": True}


def run_stand_alone(settings: Settings, software_version: str) -> None:
    """Run in this process until told to stop.

    Raises AlreadyJoined where the data folder belongs to a Tenant, LicenceMissing and LicenceExpired without a stand-alone licence in
    force, DaemonRunning, SettingsInvalid and others.
    """
    with leased_folder(settings.data) as data:
        _refuse_joined(data)

        async def main() -> None:
            licence = await licence_in_force(data, LicenceKind.STAND_ALONE)
            await StandAloneDaemon(settings, data, licence, software_version).run()

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(main())


def _refuse_joined(data: Path) -> None:
    """What a Tenant has not delivered yet would count as delivered."""
    try:
        identity = IdentityFolder(data).load()
    except NotJoined:
        return
    raise AlreadyJoined(folder=str(data), tenant=identity.guid)


def _guid(fingerprint: str) -> str:
    """A name for this machine in its own records: always the same one."""
    return str(uuid.UUID(bytes=hashlib.sha256(fingerprint.encode()).digest()[:16], version=4))
