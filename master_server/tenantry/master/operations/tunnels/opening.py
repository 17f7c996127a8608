"""The way to a tunnel: rights, state, link and limits are looked at, it is written down, and the Tenant is asked."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tenantry.master.domain.access import Permission
from tenantry.master.domain.tenants import Tenant
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.tunnels import accounts
from tenantry.master.operations.tunnels.book import TunnelBook
from tenantry.master.operations.tunnels.live import LiveTunnel
from tenantry.master.operations.viewers import Viewer, ViewerDirectory
from tenantry.master.operations.visibility import Visibility
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    Failure,
    FieldInvalid,
    MasterStopping,
    TenantInWrongState,
    TenantNotConnected,
    TenantNotFound,
    TunnelClosed,
    TunnelNotOffered,
)
from tenantry.protocol.messages import TenantState, TunnelOffer
from tenantry.protocol.names import MAX_REASON, check_text
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import LIFETIME_MS, Grant
from tenantry.protocol.tunnels.targets import MAX_TARGETS, Target

ANSWER_MS: Final = 30_000
"""So long a Tenant may take to say anything at all to an offer."""
SHORTEST_MS: Final = 1_000

SignGrant = Callable[[Grant], str]
"""Signs a grant in the name of the authority that issues now. Raises ValueError when that cannot vouch for it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operator asks for. ``targets`` none: wherever the Tenant allows. ``duration_ms`` 0: as long as is allowed."""

    guid: str
    targets: Sequence[Target]
    reason: str
    duration_ms: int


class TunnelDesk:
    """Where operators ask for tunnels. Lives on the event loop."""

    def __init__(
        self,
        book: TunnelBook,
        committer: Committer,
        register: TenantRegister,
        visibility: Visibility,
        viewers: ViewerDirectory,
        links: LinkDirectory,
        clocks: Clocks,
        sign: SignGrant,
        relay_port: int | None,
    ) -> None:
        """``relay_port``: where daemons dial for connections; None where this Master serves no tunnels."""
        self._book = book
        self._committer = committer
        self._register = register
        self._visibility = visibility
        self._viewers = viewers
        self._links = links
        self._clocks = clocks
        self._sign = sign
        self._relay_port = relay_port

    async def ask(self, viewer: Viewer, actor: Actor, asked: Asked, tunnel_id: str, key: str) -> LiveTunnel:
        """Write down that somebody asks for a tunnel, and who, before anybody hears of it; then ask the Tenant.

        The caller's right is looked at already. Raises FieldInvalid, TenantNotFound, TenantInWrongState, TunnelNotOffered,
        TenantNotConnected, TunnelsTooMany, MasterStopping.
        """
        now_ms, limits = self._clocks.wall_ms(), self._book.limits
        if self._book.stopping:
            raise MasterStopping
        reason = check_text(asked.reason.strip(), "reason", MAX_REASON)
        targets = _distinct(asked.targets)
        if asked.duration_ms and asked.duration_ms < SHORTEST_MS:
            raise FieldInvalid(field="duration", problem=f"is {asked.duration_ms} ms", expected="1 s or more, or 0")
        tenant = self._register.by_guid(asked.guid)
        if tenant is None:
            raise TenantNotFound(tenant=asked.guid)
        self._link_of(tenant)
        lasts_ms = min(asked.duration_ms or limits.longest_ms, limits.longest_ms)
        facts = Tunnel(
            id=tunnel_id,
            tenant_id=tenant.id,
            operator=viewer.actor_name,
            user_id=viewer.user_id,
            address=actor.address,
            targets=targets,
            reason=reason,
            state=TunnelState.ASKED,
            created_ms=now_ms,
            until_ms=now_ms + lasts_ms,
            idle_ms=min(limits.idle_ms, lasts_ms),
        )
        tunnel = LiveTunnel(facts, tenant.guid, viewer, actor, key, self._clocks.steady_ms())
        tunnel.tenant_key = tenant.key_hash
        self._book.admit(tunnel)
        try:
            await self._committer.run(lambda transaction: _write_asked(transaction, actor, facts))
        except BaseException:
            self._book.withdraw(tunnel)
            raise
        try:
            self._follow_rights(tunnel)
            self._offer(tunnel)
        except (Failure, ValueError) as error:
            failure = error if isinstance(error, Failure) else TunnelNotOffered(cause="nothing can be signed now")
            self._book.end(tunnel, _end_for(failure), str(failure), told=False)
            raise failure from None
        return tunnel

    async def confirm(self, tunnel: LiveTunnel) -> None:
        """Write down that the Tenant has agreed, before the operator is given the key.

        Where that is not possible the tunnel ends. Raises StoreUnavailable, MasterStopping.
        """
        facts = tunnel.facts

        def write(transaction: Transaction) -> None:
            transaction.tunnels.save(facts)
            transaction.records.append([accounts.opened(tunnel.actor, facts)])

        try:
            await self._committer.run(write)
        except Exception:
            self._book.end(tunnel, TunnelEnd.MASTER_STOPPED if self._book.stopping else TunnelEnd.NOT_WRITTEN)
            raise

    def leave(self, tunnel: LiveTunnel) -> None:
        """The operator's call is over, and with it the tunnel."""
        if tunnel.is_over:
            return
        if self._book.stopping:
            self._book.end(tunnel, TunnelEnd.MASTER_STOPPED)
        elif self._why_not(tunnel) is not None:
            self._book.end(tunnel, TunnelEnd.RIGHTS)
        else:
            self._book.end(tunnel, TunnelEnd.BY_OPERATOR, by=tunnel.actor)

    def _link_of(self, tenant: Tenant) -> LinkSession:
        """The Tenant's link, where a tunnel is possible now. Raises what `ask` does."""
        if self._relay_port is None:
            raise TunnelNotOffered(cause="this Master serves none")
        link = self._links.get(tenant.id)
        # A link knows the state that it was opened with before the register does.
        state = tenant.state if link is None else link.state
        if not state.takes_tunnels or tenant.quarantine is not None:
            found = "quarantine" if tenant.quarantine is not None else state.value
            allowed = ", ".join(sorted(state.value for state in TenantState if state.takes_tunnels))
            raise TenantInWrongState(tenant=tenant.guid, state=found, wanted="a tunnel", allowed=allowed)
        if link is None or not link.confirmed:
            raise TenantNotConnected(tenant=tenant.guid)
        if not link.takes_tunnels:
            raise TunnelNotOffered(cause="the Tenant's daemon takes none")
        return link

    def _offer(self, tunnel: LiveTunnel) -> None:
        """Ask the Tenant, which may have changed meanwhile. Raises as `_link_of`, TunnelClosed, TenantNotFound, ValueError."""
        if tunnel.is_over:
            raise TunnelClosed(end=(tunnel.facts.end or TunnelEnd.RIGHTS).value, detail=tunnel.facts.end_detail)
        facts, now_ms = tunnel.facts, self._clocks.wall_ms()
        tenant = self._register.get(facts.tenant_id)
        if tenant is None:
            raise TenantNotFound(tenant=tunnel.guid)
        link = self._link_of(tenant)
        grant = Grant(
            tunnel=facts.id,
            tenant=tunnel.guid,
            operator=facts.operator,
            address=facts.address,
            targets=facts.targets,
            reason=facts.reason,
            issued_ms=now_ms,
            expires_ms=now_ms + LIFETIME_MS,
            until_ms=facts.until_ms,
            idle_ms=facts.idle_ms,
        )
        tunnel.offered_on = link
        tunnel.ask_until_ms = self._clocks.steady_ms() + ANSWER_MS
        link.push(TunnelOffer(self._sign(grant), self._relay_port or 0))

    def _follow_rights(self, tunnel: LiveTunnel) -> None:
        following = ExitStack()

        def look() -> None:
            if self._why_not(tunnel) is not None:
                self._book.end(tunnel, TunnelEnd.RIGHTS)

        following.enter_context(self._viewers.following(tunnel.viewer, look))
        tunnel.unfollow = following.close

    def _why_not(self, tunnel: LiveTunnel) -> Failure | None:
        """Why the operator may not have this tunnel any more."""
        try:
            viewer = self._viewers.again(tunnel.viewer, self._clocks.wall_ms())
            self._visibility.require(viewer, Permission.TUNNEL_OPEN, tunnel.guid)
        except Failure as failure:
            return failure
        return None


def _write_asked(transaction: Transaction, actor: Actor, facts: Tunnel) -> None:
    transaction.tunnels.insert(facts)
    transaction.records.append([accounts.asked(actor, facts)])


def _distinct(targets: Sequence[Target]) -> tuple[Target, ...]:
    if len(targets) > MAX_TARGETS:
        raise FieldInvalid(field="targets", problem=f"has {len(targets)} entries", expected=f"at most {MAX_TARGETS}")
    return tuple(dict.fromkeys(targets))


def _end_for(failure: Failure) -> TunnelEnd:
    if isinstance(failure, TenantInWrongState):
        return TunnelEnd.STATE
    if isinstance(failure, TenantNotConnected):
        return TunnelEnd.LINK_LOST
    return TunnelEnd.TENANT_REVOKED if isinstance(failure, TenantNotFound) else TunnelEnd.NOT_OFFERED
