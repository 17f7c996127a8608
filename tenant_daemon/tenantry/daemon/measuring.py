"""What every daemon runs, with a Master or without one: the spool, the probes, the local rules, the control socket's common part."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tenantry.daemon.config import Settings
from tenantry.daemon.domain.failures import DaemonRunning, FileUnusable, SettingsInvalid
from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rules import LocalRules
from tenantry.daemon.domain.standing import Standing
from tenantry.daemon.operations.collecting import Collector
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.newest import read_newest
from tenantry.daemon.operations.notifying import notify, parse_level
from tenantry.daemon.operations.showing import describe_losses, describe_metrics, describe_rules, describe_settings
from tenantry.daemon.probes.contract import Probe, measure
from tenantry.daemon.probes.discovery import discover_probes
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.spool.spool import Spool
from tenantry.process.files import FileExposed, LeaseHeld, exclusive_lock, private_directory
from tenantry.process.notify import ServiceNotifier

_log = structlog.get_logger(__name__)

_LOSSES = 20  # of each stream
WORKERS = 4  # for probes and files; each thread costs memory


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


class Measuring:
    """The parts that measure this machine and keep what follows. Raises SettingsInvalid for a probe that is not there."""

    def __init__(
        self, guid: str, settings: Settings, folder: Path, sizes: SpoolSettings, software_version: str
    ) -> None:
        self.guid = guid
        self.settings = settings
        self.rules = LocalRules(settings.rules)
        self.folder = folder
        self.software_version = software_version
        self.started_ms = time.time_ns() // 1_000_000
        self.spool = Spool(folder, guid, sizes)
        self.standing: Callable[[], Standing] = Standing
        discovery = discover_probes(lambda: self.spool.last_status, self._read_standing)
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
            guid,
            [ProbeSource(probe) for probe in discovery.probes],
            settings.probes.intervals_s,
            settings.probes.disabled,
            self.rules,
            self.conduct,
            self.spool,
        )
        self.notifier = ServiceNotifier.from_environment()

    def _read_standing(self) -> Standing:
        return self.standing()

    def use_workers(self) -> None:
        """Give the running loop its few threads."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKERS, "worker"))

    async def feed_watchdog(self) -> None:
        """Tell systemd that the loop turns, for as long as it asks for that."""
        interval = self.notifier.watchdog_interval
        while interval is not None:
            self.notifier.watchdog()
            await asyncio.sleep(interval / 2)

    def leave_hanging_probes(self) -> None:
        """End the process at once where a probe hangs: its thread would keep it from ending, for ever."""
        if self.collector.hanging:
            # Everything of ours is closed and on the disk.
            _log.warning("ended without waiting for probes that hang", probes=sorted(self.collector.hanging))
            sys.stderr.flush()
            os._exit(0)

    async def describe(self) -> dict[str, Any]:
        """What `status` says about any daemon."""
        spool = await self.spool.status()
        return {
            "running": True,
            "pid": os.getpid(),
            "version": self.software_version,
            "started_ms": self.started_ms,
            "guid": self.guid,
            "host": socket.gethostname(),
            "state": self.conduct.present.state.value,
            "state_since_ms": self.conduct.present.since_ms,
            "spool": {
                "unacknowledged_records": spool.unacknowledged_records,
                "bytes": spool.bytes,
                "capacity_bytes": spool.capacity_bytes,
                "oldest_unacknowledged_ms": spool.oldest_unacknowledged_ms,
                "epoch": self.spool.epoch.hex(),
                "next_seq": {stream.value: seq for stream, seq in self.spool.ends.items()},
                "refused_records": self.collector.refused,
                **describe_losses(await self.spool.losses(_LOSSES)),
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

    def describe_content(self) -> dict[str, Any]:
        """What the console shows beside the status of any daemon."""
        return {
            "now_ms": time.time_ns() // 1_000_000,
            "metrics": describe_metrics(self.collector.reports),
            "rules": describe_rules(self.settings.rules, self.rules),
            "settings": describe_settings(self.settings, self.conduct.present.configuration),
        }

    async def notify(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the command `notify` asks for."""
        level = parse_level(str(request["level"]))
        now_ms = time.time_ns() // 1_000_000
        kept = await notify(self.spool, self.conduct, level, str(request["source"]), str(request["text"]), now_ms)
        return {"kept": kept, "state": self.conduct.present.state.value}

    async def read_records(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the command `records` asks for."""
        return {"records": await read_newest(self.spool, str(request["stream"]), int(request["limit"]))}


def loop_factory() -> Any:
    """What makes the event loop; None for Python's own."""
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.new_event_loop
