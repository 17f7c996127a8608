"""What a daemon that was killed has left in the logs without an end: the next one writes the end, and what is not known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenantry.daemon.tunnels.log import CONNECTIONS, TUNNELS, TunnelLog, read_log
from tenantry.daemon.tunnels.watched_policy import now_ms
from tenantry.protocol.tunnels.ends import TunnelEnd

REACHED = "reached"
"""The event of a tunnel's first connection to a target, in the log of connections."""
_LINE = ("time_ms", "event")


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """``tunnels``: the first lines of those without an end. ``targets``: the lines that say where each of them led."""

    tunnels: tuple[Mapping[str, Any], ...]
    targets: tuple[Mapping[str, Any], ...]


def left_behind(data: Path) -> LeftBehind:
    """What was open when the daemon stopped without a word. Blocks; raises OSError."""
    begun: dict[str, dict[str, Any]] = {}
    for fact in read_log(data, TUNNELS):
        if fact.get("event") == "asked":
            begun[str(fact.get("tunnel"))] = fact
        elif fact.get("event") in ("ended", "refused"):
            begun.pop(str(fact.get("tunnel")), None)
    targets: dict[tuple[str, str], dict[str, Any]] = {}
    if begun:
        for fact in read_log(data, CONNECTIONS):
            if fact.get("event") == REACHED and str(fact.get("tunnel")) in begun:
                targets[str(fact["tunnel"]), str(fact.get("target"))] = fact
    return LeftBehind(tuple(begun.values()), tuple(targets.values()))


async def write_ends(data: Path, tunnels: TunnelLog, connections: TunnelLog) -> None:
    """Into the logs, before there are others in them that have no end yet."""
    try:
        left = await asyncio.to_thread(left_behind, data)
    except OSError:
        return
    for fact in left.targets:
        detail = "the daemon was started anew; which connections there were open, and their bytes, is not known"
        known = {name: value for name, value in fact.items() if name not in _LINE}
        connections.note("left", now_ms(), **{**known, "end": TunnelEnd.LINK_LOST.value, "detail": detail})
    for fact in left.tunnels:
        detail = "the daemon was started anew; bytes are not known"
        known = {name: value for name, value in fact.items() if name not in _LINE}
        tunnels.note("ended", now_ms(), **{**known, "end": TunnelEnd.LINK_LOST.value, "detail": detail})
