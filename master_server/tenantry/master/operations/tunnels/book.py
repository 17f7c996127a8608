"""All tunnels that have not ended, and every way in which one ends but those that its operator has. Lives on the event loop."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.operations.tunnels.accounts import SYSTEM_OF_TUNNELS, TunnelAccounts, ended_tunnel, over
from tenantry.master.operations.tunnels.live import LiveTunnel
from tenantry.protocol.failures import CertificateRevoked, TunnelsTooMany
from tenantry.protocol.messages import TenantState, TunnelClose, TunnelReport, TunnelsHeld
from tenantry.protocol.names import MAX_REASON, tidy_text
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState

AWAY_MS: Final = 60_000
"""A tunnel without a connection ends when the Tenant's link is away for so long."""
KEPT_MS: Final = 5_000
"""So often is written down what has gone through tunnels that go on: a Master that dies has forgotten no more."""
CONSENT_MS: Final = 3_600_000
"""So long a Tenant may wait for consent at most, whatever its policy says."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TunnelLimits:
    """How much of it there may be at a time; durations in milliseconds. ``dials``: a second, at one Tenant."""

    per_tenant: int
    per_master: int
    connections: int
    connections_per_tenant: int
    dials: int
    longest_ms: int
    idle_ms: int


class TunnelObserver(Protocol):
    """Told of what happens to tunnels."""

    def tunnel_opened(self) -> None:
        """A Tenant has agreed to one."""

    def tunnel_ended(self, end: TunnelEnd) -> None:
        """One is over, or came to nothing."""

    def connection_joined(self) -> None:
        """Both streams of a connection are there."""

    def dial_failed(self, end: TunnelEnd) -> None:
        """A connection came to nothing."""

    def bytes_relayed(self, up: int, down: int) -> None:
        """So many bytes have gone through a tunnel that has ended."""


class TunnelBook:
    """Tunnels by their id and by their Tenant."""

    def __init__(
        self,
        links: LinkDirectory,
        accounts: TunnelAccounts,
        clocks: Clocks,
        limits: TunnelLimits,
        observer: TunnelObserver,
    ) -> None:
        self.limits = limits
        self.stopping = False
        self._links = links
        self._accounts = accounts
        self._clocks = clocks
        self._observer = observer
        self._keep_ms = 0
        self._tunnels: dict[str, LiveTunnel] = {}
        self._at: dict[int, dict[str, LiveTunnel]] = {}

    def __len__(self) -> int:
        return len(self._tunnels)

    def __iter__(self) -> Iterator[LiveTunnel]:
        return iter(tuple(self._tunnels.values()))

    @property
    def connections(self) -> int:
        """How many connections there are, those that are being opened included."""
        return sum(len(tunnel.connections) for tunnel in self._tunnels.values())

    def get(self, tunnel_id: str) -> LiveTunnel | None:
        """The tunnel; None when there is none that lives."""
        return self._tunnels.get(tunnel_id)

    def at(self, tenant_id: int) -> Collection[LiveTunnel]:
        """Those at a Tenant."""
        return tuple(self._at.get(tenant_id, {}).values())

    # --- begin and end ----------------------------------------------------------------------------------------------------

    def admit(self, tunnel: LiveTunnel) -> None:
        """Take a new tunnel in. Raises TunnelsTooMany."""
        there = sum(not one.is_over for one in self.at(tunnel.facts.tenant_id))
        if there >= self.limits.per_tenant:
            raise TunnelsTooMany(limit=f"{self.limits.per_tenant} tunnels at this Tenant")
        if sum(not one.is_over for one in self._tunnels.values()) >= self.limits.per_master:
            raise TunnelsTooMany(limit=f"{self.limits.per_master} tunnels at all Tenants together")
        self._tunnels[tunnel.id] = tunnel
        self._at.setdefault(tunnel.facts.tenant_id, {})[tunnel.id] = tunnel

    def withdraw(self, tunnel: LiveTunnel) -> None:
        """Forget a tunnel: one of which nothing was written down, or whose end is."""
        tunnel.unfollow()
        self._tunnels.pop(tunnel.id, None)
        at = self._at.get(tunnel.facts.tenant_id)
        if at is not None:
            at.pop(tunnel.id, None)
            if not at:
                del self._at[tunnel.facts.tenant_id]

    def end(
        self, tunnel: LiveTunnel, end: TunnelEnd, detail: str = "", *, by: Actor = SYSTEM_OF_TUNNELS, told: bool = True
    ) -> None:
        """End a tunnel and everything that goes through it. What comes first counts. ``told``: the Tenant is told."""
        if tunnel.is_over:
            return
        tunnel.unfollow()
        ended = ended_tunnel(tunnel.snapshot(), end, tidy_text(detail, MAX_REASON), self._clocks.wall_ms())
        tunnel.change(ended)
        for connection in tuple(tunnel.connections):
            connection.finish(end, detail)
        if told and tunnel.offered_on is not None:
            link = self._links.get(ended.tenant_id)
            if link is not None:
                link.push(TunnelClose(tunnel.id, end, detail))
        self._observer.tunnel_ended(end)
        self._observer.bytes_relayed(tunnel.bytes_up, tunnel.bytes_down)
        self._accounts.close(ended, over(tunnel.actor, ended, by, tunnel.guid), lambda: self.withdraw(tunnel))
        log.info("tunnel ended", tunnel=tunnel.id, tenant=tunnel.guid, end=end.value)

    def stop(self) -> None:
        """End all: the Master stops."""
        self.stopping = True
        for tunnel in self:
            self.end(tunnel, TunnelEnd.MASTER_STOPPED)

    # --- what the Tenant says ---------------------------------------------------------------------------------------------

    def link_began(self, link: LinkSession) -> None:
        """A link is open: tell its daemon which tunnels it should hold."""
        held = []
        for tunnel in self.at(link.tenant_id):
            if not tunnel.is_over:
                tunnel.away_ms = None
                held.append(tunnel.id)
        if link.takes_tunnels:
            link.push(TunnelsHeld(tuple(held)))
        else:
            for tunnel in self.at(link.tenant_id):
                self.end(tunnel, TunnelEnd.NOT_OFFERED)

    def link_ended(self, link: LinkSession) -> None:
        """A Tenant's link is gone; its tunnels go on for a while, unless its certificate counts no more."""
        if isinstance(link.failure, CertificateRevoked):
            self.revoked(link.tenant_id)
        for tunnel in self.at(link.tenant_id):
            if tunnel.away_ms is None:
                tunnel.away_ms = self._clocks.steady_ms()

    def reconcile(self, link: LinkSession, held: Collection[str]) -> None:
        """A daemon says which tunnels it holds; what it was offered on an older link and does not hold is over."""
        known = frozenset(held)
        for tunnel in self.at(link.tenant_id):
            if tunnel.is_over or tunnel.offered_on is link or tunnel.offered_on is None:
                continue
            if tunnel.id in known:
                tunnel.offered_on = link
            else:
                self.end(tunnel, TunnelEnd.LINK_LOST, "the daemon was started anew", told=False)

    def report(self, link: LinkSession, report: TunnelReport) -> None:
        """A daemon says how a tunnel stands. What concerns none of its own is ignored: it may have ended meanwhile."""
        tunnel = self._tunnels.get(report.tunnel_id)
        if tunnel is None or tunnel.facts.tenant_id != link.tenant_id or tunnel.is_over:
            return
        match report.state:
            case TunnelState.WAITING_FOR_CONSENT:
                if tunnel.facts.state is TunnelState.ASKED:
                    tunnel.ask_until_ms = self._clocks.steady_ms() + CONSENT_MS
                    tunnel.change(replace(tunnel.facts, state=TunnelState.WAITING_FOR_CONSENT))
            case TunnelState.OPEN:
                if not tunnel.is_open:
                    self._open(tunnel, report)
                elif (until_ms := self._until_ms(tunnel, report)) < tunnel.facts.until_ms:
                    tunnel.change(replace(tunnel.facts, until_ms=until_ms))  # its policy has become stricter
            case TunnelState.CLOSED:
                by = Actor("tenant", tunnel.guid)
                self.end(tunnel, report.end or TunnelEnd.BY_TENANT, report.detail, by=by, told=False)
            case _:
                return

    def _open(self, tunnel: LiveTunnel, report: TunnelReport) -> None:
        facts, now_ms, until_ms = tunnel.facts, self._clocks.wall_ms(), self._until_ms(tunnel, report)
        tunnel.console_path = report.console_path
        tunnel.active_ms = self._clocks.steady_ms()
        tunnel.change(replace(facts, state=TunnelState.OPEN, opened_ms=now_ms, until_ms=until_ms))
        self._observer.tunnel_opened()

    def _until_ms(self, tunnel: LiveTunnel, report: TunnelReport) -> int:
        """The daemon may allow less time than there would be, and never more."""
        until_ms = tunnel.facts.until_ms
        return until_ms if report.until_ms is None else min(until_ms, max(self._clocks.wall_ms(), report.until_ms))

    # --- what happens by itself -------------------------------------------------------------------------------------------

    def tenant_changed(self, tenant: Tenant) -> None:
        """A Tenant is other than it was, as its last commit left it."""
        tunnels = self.at(tenant.id)
        if not tunnels:
            return
        for tunnel in tunnels:
            if tenant.state is TenantState.DELETED:
                self.end(tunnel, TunnelEnd.TENANT_REVOKED, "the Tenant is deleted")
            elif tenant.quarantine is not None:
                self.end(tunnel, TunnelEnd.TENANT_REVOKED, "the Tenant is in quarantine")
            elif tenant.key_hash != tunnel.tenant_key:
                self.end(tunnel, TunnelEnd.TENANT_REVOKED, "the Tenant has a new enrolment key")
            elif not tenant.state.takes_tunnels:
                self.end(tunnel, TunnelEnd.STATE, f"the Tenant is in state {tenant.state.value}")

    def revoked(self, tenant_id: int) -> None:
        """A Tenant's certificates count no more."""
        for tunnel in self.at(tenant_id):
            self.end(tunnel, TunnelEnd.TENANT_REVOKED)

    def look(self) -> None:
        """End what has come to its end by the mere passing of time. To be called about once a second."""
        steady_ms, wall_ms = self._clocks.steady_ms(), self._clocks.wall_ms()
        keep = steady_ms >= self._keep_ms
        if keep:
            self._keep_ms = steady_ms + KEPT_MS
        for tunnel in self:
            if tunnel.is_over:
                continue
            facts = tunnel.facts
            if keep and tunnel.is_open and facts.totals != (moved := tunnel.snapshot()).totals:
                tunnel.facts = facts = moved
                self._accounts.keep(moved)
            if wall_ms >= facts.until_ms:
                self.end(tunnel, TunnelEnd.LONGEST)
            elif not tunnel.is_open:
                if tunnel.ask_until_ms and steady_ms >= tunnel.ask_until_ms:
                    waited = facts.state is TunnelState.WAITING_FOR_CONSENT
                    self.end(tunnel, TunnelEnd.CONSENT_TIMED_OUT if waited else TunnelEnd.NO_ANSWER)
            elif steady_ms - tunnel.active_ms >= facts.idle_ms:
                self.end(tunnel, TunnelEnd.IDLE)
            elif tunnel.away_ms is not None and steady_ms - tunnel.away_ms >= AWAY_MS and not tunnel.connections:
                self.end(tunnel, TunnelEnd.LINK_LOST)
            else:
                tunnel.touch()
                for connection in tuple(tunnel.connections):
                    if connection.not_after_ms is not None and wall_ms >= connection.not_after_ms:
                        connection.finish(TunnelEnd.TENANT_REVOKED, "the certificate of the Tenant's stream has ended")
