"""A tunnel at this end, and the connections through it: plain state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from tenantry.protocol.addresses import Address
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import Grant
from tenantry.protocol.tunnels.targets import Target

LONGEST_DETAIL: Final = 500


@dataclass(frozen=True, slots=True)
class End:
    """Why a tunnel is over. ``told``: the Master knows it already."""

    end: TunnelEnd
    detail: str = ""
    told: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """A connection through a tunnel. Times are Unix milliseconds. ``address``: to which it was opened; none to the console."""

    nonce: bytes
    target: Target
    begin_ms: int
    task: asyncio.Task[None] | None = None
    address: Address | None = None
    joined: bool = False
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(slots=True, eq=False)
class Held:
    """A tunnel. ``until_ms``: Unix milliseconds; ``active_at`` and ``unlinked_at``: seconds of the monotonic clock.

    ``reached``: targets of which the log says already that it led there.
    """

    grant: Grant
    relay_port: int
    asked_ms: int
    until_ms: int
    idle_ms: int
    active_at: float
    over: asyncio.Future[End] = field(repr=False)
    state: TunnelState = TunnelState.ASKED
    open_ms: int | None = None
    consented_by: str = ""
    console_path: str = field(default="", repr=False)
    unlinked_at: float | None = None
    connections: dict[bytes, Connection] = field(default_factory=dict)
    reached: set[Target] = field(default_factory=set)
    total: int = 0
    past_up: int = 0
    past_down: int = 0

    @property
    def id(self) -> str:
        """The same as in the Master's audit."""
        return self.grant.tunnel

    @property
    def is_open(self) -> bool:
        """Whether connections may be opened."""
        return self.state is TunnelState.OPEN and not self.over.done()

    @property
    def bytes_up(self) -> int:
        """From the operator to targets."""
        return self.past_up + sum(one.bytes_up for one in self.connections.values())

    @property
    def bytes_down(self) -> int:
        """From targets to the operator."""
        return self.past_down + sum(one.bytes_down for one in self.connections.values())

    def finish(self, end: TunnelEnd, detail: str = "", *, told: bool = False) -> None:
        """It is over; what was said first counts."""
        if not self.over.done():
            self.over.set_result(End(end, detail[:LONGEST_DETAIL], told))

    def shorten(self, longest_ms: int, idle_ms: int) -> bool:
        """The policy says so now; what it allows beyond what was allowed before changes nothing. Whether it ends earlier now."""
        before_ms, self.until_ms = self.until_ms, min(self.until_ms, self.asked_ms + longest_ms)
        self.idle_ms = min(self.idle_ms, idle_ms)
        return self.until_ms < before_ms

    def over_by_time(self, now_ms: int, now_s: float, unlinked_s: float) -> End | None:
        """Why it is over by the passing of time alone. ``now_s``: of the monotonic clock; ``unlinked_s``: it outlives the link."""
        if now_ms >= self.until_ms:
            return End(TunnelEnd.LONGEST)
        if now_s - self.active_at >= self.idle_ms / 1000:
            return End(TunnelEnd.IDLE)
        if self.unlinked_at is not None and now_s - self.unlinked_at >= unlinked_s:
            return End(TunnelEnd.LINK_LOST, "the link was away for too long")
        return None

    def left_s(self, now_ms: int, now_s: float, unlinked_s: float) -> float:
        """Until that can be so at the earliest."""
        left = min((self.until_ms - now_ms) / 1000, self.active_at + self.idle_ms / 1000 - now_s)
        return left if self.unlinked_at is None else min(left, self.unlinked_at + unlinked_s - now_s)

    def begin(self, connection: Connection) -> None:
        """A connection is asked for."""
        self.connections[connection.nonce] = connection
        self.total += 1

    def settle(self, connection: Connection) -> None:
        """A connection is over."""
        if self.connections.pop(connection.nonce, None) is not None:
            self.past_up += connection.bytes_up
            self.past_down += connection.bytes_down

    def describe(self) -> dict[str, Any]:
        """As plain data, for people."""
        return {
            **describe_grant(self.grant),
            "state": self.state.value,
            "consented_by": self.consented_by,
            "asked_ms": self.asked_ms,
            "open_ms": self.open_ms,
            "until_ms": self.until_ms,
            "connections": self.total,
            "open_connections": len(self.connections),
            "connected_to": sorted({str(one.target) for one in self.connections.values()}),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }


def describe_grant(grant: Grant) -> dict[str, Any]:
    """Who asks for what and why, as plain data."""
    return {
        "tunnel": grant.tunnel,
        "operator": grant.operator,
        "address": grant.address,
        "targets": [str(target) for target in grant.targets],
        "reason": grant.reason,
    }
