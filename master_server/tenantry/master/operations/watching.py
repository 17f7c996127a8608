"""Following Tenants: which of them a watcher has to be told about, and when. Lives on the event loop."""

import asyncio
from collections.abc import Callable, Iterable

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.tenants import Tenant, TenantFilter
from tenantry.master.operations.register import TenantRegister


def _sees_all(_: Tenant) -> bool:
    return True


class TenantWatch:
    """What one watcher has not been told yet. Changes are told soon, figures at most once an interval."""

    def __init__(
        self,
        register: TenantRegister,
        wanted: TenantFilter,
        sees: Callable[[Tenant], bool] = _sees_all,
        sight: Sight = EVERYTHING,
    ) -> None:
        """``sees`` says whether the watcher sees a Tenant; ``sight`` what it sees when it begins."""
        self._register = register
        self._filter = wanted
        self._sees = sees
        self._sight = sight
        self._changed: dict[int, Tenant] = {}
        self._moving: set[int] = set()
        self._shown: dict[int, str] = {}
        self.wake = asyncio.Event()
        self._stop_listening = register.listen(self._note_change)

    def close(self) -> None:
        """Stop listening."""
        self._stop_listening()

    def first(self) -> list[Tenant]:
        """Every Tenant that matches now; from here on changes are noted."""
        ids = self._sight.tenant_ids
        present = self._register if ids is None else filter(None, map(self._register.get, sorted(ids)))
        tenants = [tenant for tenant in present if self._matches(tenant)]
        self._shown = {tenant.id: tenant.guid for tenant in tenants}
        return tenants

    def note_figures(self, tenant_id: int) -> None:
        """The Tenant's figures have moved."""
        self._moving.add(tenant_id)

    def take_changes(self) -> tuple[list[Tenant], list[str]]:
        """Tenants that changed and match, and the GUIDs of those that were shown and match no more."""
        changed, self._changed = self._changed, {}
        self.wake.clear()
        return self._sort(changed.values())

    def take_figures(self) -> list[Tenant]:
        """Tenants on show whose figures have moved."""
        moving, self._moving = self._moving, set()
        tenants = (self._register.get(tenant_id) for tenant_id in moving if tenant_id in self._shown)
        return [tenant for tenant in tenants if tenant is not None]

    def _note_change(self, tenant: Tenant) -> None:
        # One that waits to be shown for the first time may match no more: what waits must be its newest form.
        if tenant.id in self._shown or tenant.id in self._changed or self._matches(tenant):
            self._changed[tenant.id] = tenant
            self.wake.set()

    def _sort(self, tenants: Iterable[Tenant]) -> tuple[list[Tenant], list[str]]:
        matching: list[Tenant] = []
        gone: list[str] = []
        for tenant in tenants:
            self._moving.discard(tenant.id)
            if self._matches(tenant):
                self._shown[tenant.id] = tenant.guid
                matching.append(tenant)
            elif self._shown.pop(tenant.id, None) is not None:
                gone.append(tenant.guid)
        return matching, gone

    def _matches(self, tenant: Tenant) -> bool:
        return self._filter.matches(tenant) and self._sees(tenant)
