"""The policy as it is in force at a moment, and who is told when its file cannot be used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog

from tenantry.daemon.domain.hours import LocalMinute
from tenantry.daemon.domain.tunnel_policy import TunnelPolicy
from tenantry.daemon.tunnels.policy_file import PolicyFile, ReadPolicy

_log = structlog.get_logger(__name__)


class WatchedPolicy:
    """The file, looked at before each decision."""

    def __init__(self, file: PolicyFile, warn: Callable[[str], Awaitable[None]]) -> None:
        """``warn``: tells the operators."""
        self._file = file
        self._warn = warn
        self._told = ""

    @property
    def known(self) -> TunnelPolicy:
        """What it said when it was looked at last."""
        return self._file.known.policy

    def begin_look(self) -> asyncio.Future[ReadPolicy]:
        """Have the file read while something else is done; `look` takes it."""
        return asyncio.get_running_loop().run_in_executor(None, self._file.read)

    async def look(self, begun: asyncio.Future[ReadPolicy] | None = None) -> TunnelPolicy:
        """What is in force now. What is wrong with the file is said once, to the log and to the operators."""
        read = await (begun or self.begin_look())
        if read.trouble != self._told:
            self._told = read.trouble
            if read.trouble:
                path = str(self._file.path)
                _log.error("policy for tunnels cannot be used: no tunnel is allowed", file=path, cause=read.trouble)
                await self._warn(f"the policy for tunnels {path} cannot be used, so none is allowed: {read.trouble}")
        return read.policy

    def describe(self) -> dict[str, Any]:
        """As plain data, for people at this machine."""
        known, policy = self._file.known, self._file.known.policy
        some = any(entry.consent for entry in policy.allowed)
        return {
            "file": str(self._file.path),
            "exists": known.exists,
            "trouble": known.trouble,
            "console": policy.console,
            "entries": len(policy.allowed),
            "consent": "always" if policy.consent else "for some targets" if some else "never",
            "reason": "required" if policy.reason_required else "optional",
            "recording": policy.recording or "off",
        }


def now_ms() -> int:
    """The time, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def wall_clock(policy: TunnelPolicy) -> LocalMinute:
    """Day and minute in the time zone of the policy."""
    now = datetime.now().astimezone()
    if policy.time_zone:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - most policies name none

        now = now.astimezone(ZoneInfo(policy.time_zone))
    return LocalMinute(now.weekday(), now.hour * 60 + now.minute)
