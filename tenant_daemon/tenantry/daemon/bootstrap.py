"""Puts the daemon together and runs it: the one module that knows every adapter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tenantry.daemon.config import Settings
from tenantry.daemon.control.server import serve_control
from tenantry.daemon.domain.failures import DaemonRunning, FileUnusable, SettingsInvalid
from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rules import LocalRules
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.link.keeper import LinkKeeper
from tenantry.daemon.link.witness import Verdict
from tenantry.daemon.operations.collecting import Collector
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.notifying import notify, parse_level, raise_alert
from tenantry.daemon.probes.contract import Probe, measure
from tenantry.daemon.probes.discovery import discover_probes
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.spool.spool import Spool
from tenantry.process.files import FileExposed, LeaseHeld, exclusive_lock, private_directory
from tenantry.process.notify import ServiceNotifier
from tenantry.protocol.failures import Failure, FieldInvalid
from tenantry.protocol.messages import Goodbye, GoodbyeReason, NotificationLevel
from tenantry.protocol.names import MAX_REASON, check_text

_log = structlog.get_logger(__name__)

_WORKERS = 4  # for probes and files; each thread costs memory
LEAVE_REASONS = (GoodbyeReason.STOP, GoodbyeReason.REBOOT, GoodbyeReason.UPGRADE, GoodbyeReason.MAINTENANCE)


@contextlib.contextmanager
def leased_folder(path: Path) -> Iterator[Path]:
    """The data folder, private, with this process as its only user. Raises DaemonRunning, FileUnusable."""
    try:
        folder = private_directory(path)
        lease = exclusive_lock(folder / "lock")
    except LeaseHeld as held:
        raise DaemonRunning(folder=str(path), pid=held.pid or "?") from None
    except FileExposed as exposed:
        raise FileUnusable(path=str(path), problem=f"{exposed.problem}; {exposed.remedy}") from None
    except OSError as error:
        raise FileUnusable(path=str(path), problem=error.strerror or type(error).__name__) from None
    with lease:
        yield folder


@dataclass(frozen=True, slots=True)
class ProbeSource:
    """A probe as a source of the collector."""

    probe: Probe

    @property
    def name(self) -> str:
        return self.probe.name

    @property
    def default_interval_s(self) -> float:
        return self.probe.default_interval_s

    def measure(self) -> tuple[Sequence[Reading], Sequence[str]]:
        measured = measure(self.probe)
        return measured.readings, measured.notes


class Daemon:
    """All parts of a running daemon."""

    def __init__(self, settings: Settings, folder: Path, software_version: str) -> None:
        identity_folder = IdentityFolder(folder)
        self.identity = identity_folder.load()
        self.folder = folder
        self.software_version = software_version
        self.started_ms = time.time_ns() // 1_000_000
        sizes = SpoolSettings(settings.spool.quota, settings.spool.tail, settings.spool.tail_age_ms)
        self.spool = Spool(folder, self.identity.guid, sizes)
        discovery = discover_probes(lambda: self.spool.last_status)
        for fault in discovery.faults:
            _log.warning("probe skipped", entry_point=fault.entry_point, cause=fault.problem)
        names = [probe.name for probe in discovery.probes]
        for name in (*settings.probes.intervals_s, *settings.probes.disabled):
            if name not in names:
                raise SettingsInvalid(
                    origin="probes", problem=f"there is no probe {name}; known are {', '.join(names)}"
                )
        self.conduct = ConductKeeper(folder / "conduct.json", names)
        self.collector = Collector(
            self.identity.guid,
            [ProbeSource(probe) for probe in discovery.probes],
            settings.probes.intervals_s,
            settings.probes.disabled,
            LocalRules(settings.rules),
            self.conduct,
            self.spool,
        )
        self.notifier = ServiceNotifier.from_environment()
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
        )
        self._ended: asyncio.Future[bool] | None = None

    async def run(self) -> None:
        """Work until a signal or `leave`."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_WORKERS, "worker"))
        self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.keeper.stop, Goodbye(GoodbyeReason.STOP))
        handlers = {"status": self._status, "leave": self._leave, "notify": self._notify}
        async with self.spool.opened(), serve_control(self.folder, handlers):
            _log.info(
                "daemon started", tenant=self.identity.guid, version=self.software_version, folder=str(self.folder)
            )
            self.notifier.ready("started")
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self.collector.run()),
                    tasks.create_task(self._feed_watchdog()),
                    tasks.create_task(self.keeper.witness.run()),
                ]
                heard = await self.keeper.run()
                self.notifier.stopping()
                for helper in helpers:
                    helper.cancel()
            self._ended.set_result(heard)
        _log.info("daemon stopped", goodbye_heard=heard)
        if self.collector.hanging:
            # Its thread would keep the process from ending, for ever. Everything of ours is closed and on the disk.
            _log.warning("ended without waiting for probes that hang", probes=sorted(self.collector.hanging))
            sys.stderr.flush()
            os._exit(0)

    async def _feed_watchdog(self) -> None:
        interval = self.notifier.watchdog_interval
        while interval is not None:
            self.notifier.watchdog()
            await asyncio.sleep(interval / 2)

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
        if not self.notifier.enabled:
            return
        link = self.keeper.status
        how = f"connected to {link.address}" if link.connected else "not connected"
        if not link.connected and link.trouble is not None:
            how += f": {link.trouble.describe()}"
        self.notifier.status(f"{self.conduct.present.state.value}, {how}")

    # --- what the control socket asks for

    async def _status(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        spool = await self.spool.status()
        conduct = self.conduct.present
        return {
            "running": True,
            "pid": os.getpid(),
            "version": self.software_version,
            "started_ms": self.started_ms,
            "guid": self.identity.guid,
            "trust_domain": self.identity.trust_domain,
            "state": conduct.state.value,
            "configuration": {
                "running_version": conduct.configuration.version,
                "wanted_version": conduct.wanted_version,
                "failed_version": conduct.failed_version,
                "failure": conduct.failure,
                "heartbeat_interval_ms": conduct.configuration.heartbeat_interval_ms,
            },
            "link": self.keeper.status.describe(),
            "audit": self._describe_audit(),
            "spool": {
                "unacknowledged_records": spool.unacknowledged_records,
                "bytes": spool.bytes,
                "capacity_bytes": spool.capacity_bytes,
                "oldest_unacknowledged_ms": spool.oldest_unacknowledged_ms,
                "epoch": self.spool.epoch.hex(),
                "next_seq": {stream.value: seq for stream, seq in self.spool.ends.items()},
                "refused_records": self.collector.refused,
            },
            "probes": {
                name: {
                    "interval_s": report.interval_s,
                    "read_ms": report.read_ms,
                    "readings": report.readings,
                    "notes": list(report.notes),
                }
                for name, report in sorted(self.collector.reports.items())
            },
        }

    def _describe_audit(self) -> dict[str, Any]:
        witness = self.keeper.witness
        last = witness.last
        return {
            "judgement": last.judgement.lower() if last is not None else None,
            "sequence": last.sequence if last is not None else None,
            "detail": last.describe() if last is not None and last.is_alarming else "",
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

    async def _notify(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        level = parse_level(str(request["level"]))
        now_ms = time.time_ns() // 1_000_000
        kept = await notify(self.spool, self.conduct, level, str(request["source"]), str(request["text"]), now_ms)
        return {"kept": kept, "state": self.conduct.present.state.value}


def run_daemon(settings: Settings, software_version: str) -> None:
    """Run in this process until told to stop. Raises NotJoined, IdentityDamaged, DaemonRunning, SettingsInvalid and others."""
    with leased_folder(settings.data) as folder:

        async def main() -> None:
            await Daemon(settings, folder, software_version).run()

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.new_event_loop
