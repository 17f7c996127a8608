"""Puts the daemon together and runs it: the one module that knows every adapter."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from tenantry.daemon.config import Settings
from tenantry.daemon.console.console import LocalConsole
from tenantry.daemon.control.server import serve_control
from tenantry.daemon.domain.standing import Standing
from tenantry.daemon.licences.folder import LicenceFolder, describe_kept, newest_end
from tenantry.daemon.link.heads import HeadArchive
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.link.keeper import LinkKeeper
from tenantry.daemon.link.witness import Verdict
from tenantry.daemon.measuring import Measuring, leased_folder, loop_factory
from tenantry.daemon.operations.notifying import notify, raise_alert
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.tunnels.front import TunnelFront
from tenantry.daemon.tunnels.orders import TunnelOrders
from tenantry.daemon.tunnels.policy_file import PolicyFile
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy
from tenantry.protocol.failures import Failure, FieldInvalid
from tenantry.protocol.messages import Goodbye, GoodbyeReason, NotificationLevel
from tenantry.protocol.names import MAX_REASON, check_text

if TYPE_CHECKING:
    from tenantry.daemon.tunnels.serving import Tunnels

_log = structlog.get_logger(__name__)

LEAVE_REASONS = (GoodbyeReason.STOP, GoodbyeReason.REBOOT, GoodbyeReason.UPGRADE, GoodbyeReason.MAINTENANCE)


class Daemon:
    """All parts of a running daemon."""

    def __init__(self, settings: Settings, folder: Path, software_version: str) -> None:
        identity_folder = IdentityFolder(folder)
        self.identity = identity_folder.load()
        sizes = SpoolSettings(settings.spool.quota, settings.spool.tail, settings.spool.tail_age_ms)
        self.measuring = Measuring(self.identity.guid, settings, folder, sizes, software_version)
        self.spool, self.conduct = self.measuring.spool, self.measuring.conduct
        self.licences = LicenceFolder(folder)
        self._heads = HeadArchive(folder)
        self.console = LocalConsole(settings.console_listen, self._show)
        self.tunnels = self._make_front(settings, identity_folder)
        self.keeper = LinkKeeper(
            self.identity,
            identity_folder,
            self.spool,
            self.conduct,
            self.spool.grown,
            software_version=software_version,
            host_name=socket.gethostname()[:255],
            chance=random.Random(),  # noqa: S311 - spreads load, keeps no secret
            on_change=self._tell_status,
            tell=self._tell_verdict,
            tunnels=self.tunnels,
        )
        self.measuring.standing = self._standing
        self._ended: asyncio.Future[bool] | None = None

    def _standing(self) -> Standing:
        status = self.keeper.status
        return Standing(
            certificate_end_ms=None if status.credential is None else status.credential.not_after_ms,
            licence_end_ms=newest_end(self.licences),
            clock_offset_ms=status.clock_offset_ms,
        )

    def _make_front(self, settings: Settings, identity_folder: IdentityFolder) -> TunnelFront | None:
        place = settings.tunnels_policy
        if place is None:
            return None
        watched = WatchedPolicy(PolicyFile(place.path, must_exist=place.named), self._warn_of_tunnels)
        front = TunnelFront(self.measuring.folder, watched, lambda: self._make_tunnels(identity_folder, watched))
        self.console.show_tunnels(front)
        return front

    def _make_tunnels(self, identity_folder: IdentityFolder, watched: WatchedPolicy) -> Tunnels:
        # Most daemons never see a tunnel, and all of them are to stay small.
        from tenantry.daemon.tunnelling import make_tunnels  # noqa: PLC0415

        return make_tunnels(self.identity, identity_folder, watched, self.conduct, self.console, self.keeper)

    async def _warn_of_tunnels(self, text: str) -> None:
        try:
            now_ms = time.time_ns() // 1_000_000
            await notify(self.spool, self.conduct, NotificationLevel.WARNING, "tunnels", text, now_ms)
        except Failure as failure:
            _log.error("not told to the Master", reason=failure.reason)

    async def run(self) -> None:
        """Work until a signal or `leave`."""
        measuring, loop = self.measuring, asyncio.get_running_loop()
        measuring.use_workers()
        self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.keeper.stop, Goodbye(GoodbyeReason.STOP))
        handlers = {
            "status": self._status,
            "console": self.console.make_link,
            "leave": self._leave,
            "notify": measuring.notify,
            "records": measuring.read_records,
            **TunnelOrders(self.tunnels).handlers,
        }
        async with self.spool.opened(), serve_control(measuring.folder, handlers), self.console.served():
            version, folder = measuring.software_version, str(measuring.folder)
            _log.info("daemon started", tenant=self.identity.guid, version=version, folder=folder)
            measuring.notifier.ready("started")
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(measuring.collector.run()),
                    tasks.create_task(measuring.feed_watchdog()),
                    tasks.create_task(self.keeper.witness.run()),
                ]
                if self.tunnels is not None:
                    background.append(tasks.create_task(self.tunnels.run()))
                heard = await self.keeper.run()
                measuring.notifier.stopping()
                for one in background:
                    one.cancel()
            self._ended.set_result(heard)
        _log.info("daemon stopped", goodbye_heard=heard)
        measuring.leave_hanging_probes()

    async def _tell_verdict(self, verdict: Verdict) -> None:
        """To the operators; a Master that lies about its audit may keep it from them, but not from this machine's log."""
        level = NotificationLevel.ERROR if verdict.is_alarming else NotificationLevel.WARNING
        now_ms = time.time_ns() // 1_000_000
        try:
            if verdict.is_alarming:
                await raise_alert(self.spool, self.conduct, "audit history", verdict.describe(), now_ms)
            await notify(self.spool, self.conduct, level, "audit", verdict.describe(), now_ms)
        except Failure as failure:
            _log.error("not told to the Master", reason=failure.reason)

    def _tell_status(self) -> None:
        if not self.measuring.notifier.enabled:
            return
        link = self.keeper.status
        how = f"connected to {link.address}" if link.connected else "not connected"
        if not link.connected and link.trouble is not None:
            how += f": {link.trouble.describe()}"
        self.measuring.notifier.status(f"{self.conduct.present.state.value}, {how}")

    # --- what the control socket asks for

    async def _status(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        conduct = self.conduct.present
        return {
            **await self.measuring.describe(),
            "trust_domain": self.identity.trust_domain,
            "ca_fingerprint": self.identity.ca_fingerprint,
            "console": self.console.describe(),
            "tunnels": None if self.tunnels is None else self.tunnels.describe(),
            "configuration": {
                "running_version": conduct.configuration.version,
                "wanted_version": conduct.wanted_version,
                "failed_version": conduct.failed_version,
                "failure": conduct.failure,
                "heartbeat_interval_ms": conduct.configuration.heartbeat_interval_ms,
            },
            "link": self.keeper.status.describe(),
            "audit": await asyncio.to_thread(self._describe_audit),
            "licence": await asyncio.to_thread(describe_kept, self.licences, time.time_ns() // 1_000_000),
        }

    async def _show(self) -> Mapping[str, Any]:
        """What the local console shows: the status, and what there is beside it."""
        return {**await self._status({}), **self.measuring.describe_content()}

    def _describe_audit(self) -> dict[str, Any]:
        witness = self.keeper.witness
        last = witness.last
        # What was found before this start, or by `audit verify`, is as wrong as what this daemon sees itself.
        detail = last.describe() if last is not None and last.is_alarming else self._heads.doubt()
        return {
            "judgement": last.judgement.lower() if last is not None else "contradicts" if detail else None,
            "sequence": last.sequence if last is not None else None,
            "detail": detail,
            "judged_ms": witness.last_ms,
        }

    async def _leave(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        reason = next((one for one in LEAVE_REASONS if one.value == request.get("reason", "stop")), None)
        if reason is None:
            expected = ", ".join(one.value for one in LEAVE_REASONS)
            raise FieldInvalid(field="reason", problem="is unknown", expected=f"one of {expected}")
        note = check_text(str(request.get("note", "")), "note", MAX_REASON)
        until_ms = request.get("until_ms")
        self.keeper.stop(Goodbye(reason, note, int(until_ms) if until_ms is not None else None))
        ended = self._ended
        return {"delivered": ended is not None and await asyncio.shield(ended)}


def run_daemon(settings: Settings, software_version: str) -> None:
    """Run in this process until told to stop. Raises NotJoined, IdentityDamaged, DaemonRunning, SettingsInvalid and others."""
    with leased_folder(settings.data) as folder:

        async def main() -> None:
            await Daemon(settings, folder, software_version).run()

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(main())
