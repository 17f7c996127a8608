"""One tunnel while it lives, and the connections through it. Times are milliseconds; steady ones where nothing else is said."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tenantry.master.domain.tunnels import Tunnel, TunnelTotals
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.viewers import Viewer
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.targets import Target

MOST_TARGETS_NAMED: Final = 4_096
"""So many targets of one tunnel have records of their own."""


class Connection:
    """One connection through a tunnel, from the operator's dial on, until both of its streams have ended."""

    __slots__ = ("_watching", "detail", "end", "joined", "nonce", "not_after_ms", "target", "tunnel")

    def __init__(self, tunnel: "LiveTunnel", target: Target, nonce: bytes) -> None:
        self.tunnel = tunnel
        self.target = target
        self.nonce = nonce
        self.joined = False
        self.not_after_ms: int | None = None
        """When the certificate of the Tenant's stream ends (wall clock), once that stream is there."""
        self.end: TunnelEnd | None = None
        self.detail = ""
        self._watching: list[Callable[[], None]] = []

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.end is not None

    def watch(self, function: Callable[[], None]) -> None:
        """Call this once the connection is over."""
        self._watching.append(function)

    def finish(self, end: TunnelEnd, detail: str = "") -> None:
        """It is over: both streams are ended. What comes first counts."""
        if self.end is not None:
            return
        self.end, self.detail = end, detail
        self.tunnel.connections.discard(self)
        watching, self._watching = self._watching, []
        for function in watching:
            function()


class LiveTunnel:
    """A tunnel that has not ended, or whose end is not written down yet."""

    __slots__ = (
        "_changed",
        "_moved",
        "active_ms",
        "actor",
        "ask_until_ms",
        "away_ms",
        "bytes_down",
        "bytes_up",
        "connections",
        "console_path",
        "facts",
        "guid",
        "key_hash",
        "named",
        "offered_on",
        "opened",
        "tenant_key",
        "unfollow",
        "viewer",
    )

    def __init__(self, facts: Tunnel, guid: str, viewer: Viewer, actor: Actor, key: str, now_ms: int) -> None:
        """``facts`` as they are kept; ``key``: the secret that opens connections, of which a hash is kept."""
        self.facts = facts
        self.guid = guid
        self.tenant_key = ""
        """What was known of the Tenant's enrolment key when the tunnel was asked for."""
        self.viewer = viewer
        self.actor = actor
        self.key_hash = hash_key(key)
        self.active_ms = now_ms
        """When a byte went through it last, or a connection was opened or ended."""
        self.ask_until_ms = 0
        """Until when the Tenant has to answer."""
        self.away_ms: int | None = None
        """Since when the Tenant's link is away."""
        self.offered_on: object = None
        """The link over which the Tenant was asked, or has said that it holds the tunnel."""
        self.connections: set[Connection] = set()
        self.opened = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.named: set[Target] = set()
        """Targets that have a record, where the tunnel has none of its own."""
        self.console_path = ""
        self.unfollow: Callable[[], None] = _nothing
        self._changed = asyncio.Event()
        self._moved = (0, 0, 0, 0)

    @property
    def id(self) -> str:
        """Its UUID."""
        return self.facts.id

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.facts.is_over

    @property
    def is_open(self) -> bool:
        """Whether connections may be opened through it."""
        return self.facts.state is TunnelState.OPEN

    @property
    def joined(self) -> int:
        """How many connections are open through it."""
        return sum(connection.joined for connection in self.connections)

    def snapshot(self) -> Tunnel:
        """As it is now."""
        return replace(self.facts, totals=TunnelTotals(self.opened, self.bytes_up, self.bytes_down))

    def change(self, facts: Tunnel) -> None:
        """Take this over, and wake who follows."""
        self.facts = facts
        self._changed.set()

    def touch(self) -> None:
        """Look whether something about it has changed that its operator may want to see."""
        moved = (self.opened, self.bytes_up, self.bytes_down, self.joined)
        if moved != self._moved:
            self._moved = moved
            self._changed.set()

    async def changed(self) -> bool:
        """Return when something has changed since this returned last; False once it is over."""
        await self._changed.wait()
        self._changed.clear()
        return not self.is_over

    def opens_with(self, key: str) -> bool:
        """Whether this is its key."""
        return hmac.compare_digest(self.key_hash, hash_key(key))

    def covers(self, target: Target) -> bool:
        """Whether connections to this target belong to it."""
        return not self.facts.targets or target in self.facts.targets

    def is_new(self, target: Target) -> bool:
        """Whether a connection to this target deserves a record of its own: the first one of a tunnel that leads anywhere."""
        if self.facts.targets or target in self.named or len(self.named) >= MOST_TARGETS_NAMED:
            return False
        self.named.add(target)
        return True


def hash_key(key: str) -> bytes:
    """What is kept of a tunnel's key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _nothing() -> None:
    """Nobody follows."""
