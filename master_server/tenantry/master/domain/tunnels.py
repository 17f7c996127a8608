"""Tunnels as they are kept: who reached which Tenant, where to, why, and how it ended. Times are Unix milliseconds."""

from dataclasses import dataclass

from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.targets import Target


@dataclass(frozen=True, slots=True)
class TunnelTotals:
    """What went through a tunnel: connections that were opened, and bytes from the operator (up) and to it (down)."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One tunnel. ``until_ms``: when it ends at the latest; ``ended_ms``: when it did."""

    id: str
    tenant_id: int
    operator: str
    """How the operator is called in records."""
    user_id: int
    """The store's number of the user, who may be gone since."""
    address: str
    targets: tuple[Target, ...]
    reason: str
    state: TunnelState
    created_ms: int
    until_ms: int
    idle_ms: int
    opened_ms: int | None = None
    ended_ms: int | None = None
    end: TunnelEnd | None = None
    end_detail: str = ""
    totals: TunnelTotals = TunnelTotals()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state is TunnelState.CLOSED
