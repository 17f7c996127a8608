"""How the Master wants this Tenant to behave: its state and its configuration, remembered across restarts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from tenantry.process.files import FileExposed, read_private, write_private
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Configuration, ConfigurationReport, TenantState

_log = structlog.get_logger(__name__)

SHORTEST_INTERVAL_MS = 1_000
LONGEST_INTERVAL_MS = 86_400_000
LONGEST_HEARTBEAT_MS = 300_000


@dataclass(frozen=True, slots=True)
class Conduct:
    """The state and since when (Unix ms; None: never told), the configuration that runs, and the one that was refused last with
    the reason.
    """

    state: TenantState = TenantState.MAINTENANCE
    configuration: Configuration = field(default_factory=Configuration)
    wanted_version: int = 0
    failed_version: int = 0
    failure: str = ""
    since_ms: int | None = None


class ConductKeeper:
    """The present conduct. Before the Master has said anything the state is Maintenance: nothing is collected."""

    def __init__(self, path: Path, probe_names: Collection[str]) -> None:
        self._path = path
        self._probe_names = frozenset(probe_names)
        self._changed = asyncio.Event()
        self.present = _load(path)

    async def changed(self) -> None:
        """Returns at the next change."""
        await self._changed.wait()

    async def enter_state(self, state: TenantState, reason: str = "") -> None:
        """Behave by this state from now on, and after a restart."""
        if state is self.present.state:
            return
        _log.info("state changed", state=state.value, before=self.present.state.value, reason=reason)
        await self._become(replace(self.present, state=state, since_ms=time.time_ns() // 1_000_000))

    async def apply(self, wanted: Configuration) -> ConfigurationReport | None:
        """Run this configuration, or stay with the one before; None when its outcome has been reported already.

        A transaction: what is checked and written down runs, anything else changes nothing.
        """
        if wanted == self.present.configuration:
            return None
        try:
            check_configuration(wanted, self._probe_names)
            running = replace(
                self.present, configuration=wanted, wanted_version=wanted.version, failed_version=0, failure=""
            )
            await self._become(running)
        except (FieldInvalid, OSError) as error:
            failure = str(error)[:500]
            _log.warning("configuration refused", version=wanted.version, cause=failure)
            self.present = replace(
                self.present, wanted_version=wanted.version, failed_version=wanted.version, failure=failure
            )
            return ConfigurationReport(wanted.version, failure)
        _log.info("configuration applied", version=wanted.version)
        return ConfigurationReport(wanted.version)

    async def _become(self, conduct: Conduct) -> None:
        await asyncio.to_thread(write_private, self._path, _encode(conduct))
        self.present = conduct
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def check_configuration(configuration: Configuration, probe_names: Collection[str]) -> None:
    """Raises FieldInvalid when this machine cannot work by ``configuration``."""
    intervals = configuration.probe_intervals_ms
    for name in (*intervals, *configuration.disabled_probes):
        if name not in probe_names:
            raise FieldInvalid(
                field="configuration",
                problem=f"names the probe {name[:64]!r}, which this machine does not have",
                expected=f"one of {', '.join(sorted(probe_names))}",
            )
    for name, interval in intervals.items():
        if not SHORTEST_INTERVAL_MS <= interval <= LONGEST_INTERVAL_MS:
            raise FieldInvalid(field=f"probe_intervals.{name}", problem=f"is {interval} ms", expected="1 s to 24 h")
    heartbeat = configuration.heartbeat_interval_ms
    if not SHORTEST_INTERVAL_MS <= heartbeat <= LONGEST_HEARTBEAT_MS:
        raise FieldInvalid(field="heartbeat_interval", problem=f"is {heartbeat} ms", expected="1 s to 5 min")


def _encode(conduct: Conduct) -> bytes:
    configuration = conduct.configuration
    return json.dumps(
        {
            "state": conduct.state.value,
            "since_ms": conduct.since_ms,
            "version": configuration.version,
            "heartbeat_interval_ms": configuration.heartbeat_interval_ms,
            "probe_intervals_ms": dict(configuration.probe_intervals_ms),
            "disabled_probes": list(configuration.disabled_probes),
        }
    ).encode()


def _load(path: Path) -> Conduct:
    try:
        content = json.loads(read_private(path))
        configuration = Configuration(
            int(content["version"]),
            int(content["heartbeat_interval_ms"]),
            {str(name): int(interval) for name, interval in content["probe_intervals_ms"].items()},
            tuple(content["disabled_probes"]),
        )
        since_ms = content.get("since_ms")
        return Conduct(
            TenantState(content["state"]),
            configuration,
            configuration.version,
            since_ms=None if since_ms is None else int(since_ms),
        )
    except FileNotFoundError:
        return Conduct()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FileExposed) as error:
        _log.warning("conduct forgotten", cause=f"{type(error).__name__}: {error}")
        return Conduct()
