"""Connectivity: what the links and their silence say, written down and told."""

from collections.abc import Callable
from dataclasses import replace

from tenantry.master.domain.connectivity import CONNECTIVITY, Connectivity, Leave, LinkEvent, Thresholds, silence_event
from tenantry.master.domain.lifecycle import SUPERVISED
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.alerting import News, connection_lost
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.opening import hear
from tenantry.master.operations.register import TenantRegister
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.messages import Goodbye, GoodbyeReason, TenantState
from tenantry.protocol.names import MAX_REASON, tidy_text


class Supervisor:
    """Finds Tenants that have been silent for too long. Lives on the event loop; `due` is called about once a second."""

    def __init__(
        self,
        register: TenantRegister,
        links: LinkDirectory,
        thresholds: Callable[[], Thresholds],
        started_steady_ms: int,
    ) -> None:
        """``thresholds`` are asked for at each look. ``started_steady_ms`` is when this Master began to listen: before it, nobody
        could be heard.
        """
        self._register = register
        self._links = links
        self._thresholds = thresholds
        self._started_ms = started_steady_ms
        self._supervised_since: dict[int, int] = {}
        self._heard: dict[int, int] = {}

    def due(self, steady_ms: int, wall_ms: int) -> list[tuple[int, LinkEvent]]:
        """The Tenants whose connectivity changes now by the mere passing of time."""
        due: list[tuple[int, LinkEvent]] = []
        thresholds = self._thresholds()
        since, heard, quickest = self._supervised_since, self._heard, thresholds.stale_after_ms
        for tenant in self._register:
            tenant_id = tenant.id
            link = self._links.get(tenant_id)
            if link is not None:
                heard[tenant_id] = link.heard_ms
            if tenant.state not in SUPERVISED:
                since.pop(tenant_id, None)
                if link is None and tenant.connectivity in _OPEN and self._silence(tenant_id, steady_ms) > quickest:
                    due.append((tenant_id, LinkEvent.DROPPED))
                continue
            begin = since.setdefault(tenant_id, steady_ms)
            if link is not None and steady_ms - link.heard_ms < quickest:
                if tenant.connectivity not in _HEARD:
                    due.append((tenant_id, LinkEvent.HEARD))
                continue
            silent_ms = min(steady_ms - begin, self._silence(tenant_id, steady_ms))
            if silent_ms < quickest and tenant.connectivity is not Connectivity.LEFT:
                continue  # nobody's thresholds are shorter; after a restart thousands are in this place
            event = silence_event(
                tenant.connectivity,
                supervised=True,
                silent_ms=silent_ms,
                leave=tenant.leave,
                now_ms=wall_ms,
                thresholds=thresholds.stretched(tenant.configuration.heartbeat_interval_ms),
            )
            if event is not None:
                due.append((tenant_id, event))
        return due

    def _silence(self, tenant_id: int, steady_ms: int) -> int:
        """Milliseconds since the Tenant was heard, or since it could be."""
        return steady_ms - max(self._heard.get(tenant_id, 0), self._started_ms)


def change_connectivity(transaction: Transaction, changes: list[tuple[int, LinkEvent]], now_ms: int) -> None:
    """Write down what `Supervisor.due` found; a change that came too late (the Tenant is back, or deleted) is dropped."""
    news = News()
    for tenant_id, event in changes:
        tenant = transaction.tenants.by_id(tenant_id)
        if tenant.state is TenantState.DELETED or (event in _SILENT and _just_heard(tenant, now_ms)):
            continue
        if event is LinkEvent.HEARD:
            transaction.tenants.save(hear(tenant, news, now_ms), renamed=False)
        elif (tenant.state in SUPERVISED) == (event is not LinkEvent.DROPPED):
            leave = Leave(GoodbyeReason.UNANNOUNCED, "", now_ms, None) if event is LinkEvent.DROPPED else None
            _apply(transaction, tenant, event, str(event), leave, news, now_ms)
    news.write(transaction, now_ms)


def _just_heard(tenant: Tenant, now_ms: int) -> bool:
    """Its Hello was waiting for a transaction while its silence was found."""
    return tenant.last_heard_ms is not None and now_ms - tenant.last_heard_ms < _JUST_MS


def end_link(transaction: Transaction, tenant_id: int, goodbye: Goodbye | None, *, heard_ms: int, now_ms: int) -> None:
    """A link has ended: with a Goodbye the Tenant has left; without one, that says something only where nobody supervises.

    ``heard_ms`` is when the link was last heard (Unix ms).
    """
    transaction.tenants.touch([(tenant_id, heard_ms)])
    tenant = transaction.tenants.by_id(tenant_id)
    news = News()
    if goodbye is not None and goodbye.reason is not GoodbyeReason.RENEWED:
        until = goodbye.until_ms if goodbye.until_ms is not None and goodbye.until_ms > now_ms else None
        leave = Leave(goodbye.reason, tidy_text(goodbye.note, MAX_REASON), now_ms, until)
        _apply(transaction, tenant, LinkEvent.LEFT, f"{goodbye.reason.value}: {leave.note}", leave, news, now_ms)
    elif goodbye is None and tenant.state not in SUPERVISED:
        leave = Leave(GoodbyeReason.UNANNOUNCED, "", now_ms, None)
        _apply(transaction, tenant, LinkEvent.DROPPED, str(LinkEvent.DROPPED), leave, news, now_ms)
    news.write(transaction, now_ms)


def _apply(
    transaction: Transaction,
    tenant: Tenant,
    event: LinkEvent,
    reason: str,
    leave: Leave | None,
    news: News,
    now_ms: int,
) -> None:
    after = CONNECTIVITY.get((tenant.connectivity, event))
    if after is None:
        return
    transaction.tenants.save(
        replace(tenant, connectivity=after, connectivity_since_ms=now_ms, leave=leave), renamed=False
    )
    news.records.append(journal.connectivity_changed(tenant, tenant.connectivity, after, reason, now_ms))
    if event in (LinkEvent.LOST, LinkEvent.OVERDUE):
        news.firings.append(connection_lost(tenant, f"nothing is heard: {reason}", now_ms))
    elif tenant.connectivity is Connectivity.LOST:
        # A goodbye was heard, and what follows comes from "left": nothing later would end the alert.
        news.firings.append(connection_lost(tenant, f"the Tenant {event}", now_ms, over=True))


_JUST_MS = 100
_SILENT = frozenset({LinkEvent.STALE, LinkEvent.LOST})
_OPEN = frozenset({Connectivity.CONNECTED, Connectivity.STALE})
_HEARD = frozenset({after for (_, event), after in CONNECTIVITY.items() if event is LinkEvent.HEARD})
