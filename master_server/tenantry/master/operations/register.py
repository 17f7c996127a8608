"""All Tenants that are not deleted, in memory, as the last commit left them. Lives on the event loop.

The store stays the truth; this is what the links are compared with, what silence is measured against, and what watchers see.
"""

from collections.abc import Callable, Iterable, Iterator

from tenantry.master.domain.tenants import Tenant
from tenantry.protocol.messages import TenantState

Listener = Callable[[Tenant], None]


class TenantRegister:
    """Tenants by the store's number; listeners hear of each change after its commit."""

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self._tenants = {tenant.id: tenant for tenant in tenants}
        self._numbers = {tenant.guid: tenant.id for tenant in self._tenants.values()}
        self._listeners: list[Listener] = []

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants.values())

    def __len__(self) -> int:
        return len(self._tenants)

    def get(self, tenant_id: int) -> Tenant | None:
        """One Tenant; None when it is deleted or unknown."""
        return self._tenants.get(tenant_id)

    def by_guid(self, guid: str) -> Tenant | None:
        """As `get`, by the GUID."""
        number = self._numbers.get(guid)
        return None if number is None else self._tenants.get(number)

    def refresh(self, tenants: Iterable[Tenant]) -> None:
        """Take over what was committed, and tell the listeners; deleted Tenants are told once and forgotten."""
        for tenant in tenants:
            if tenant.state is TenantState.DELETED:
                self._tenants.pop(tenant.id, None)
                self._numbers.pop(tenant.guid, None)
            else:
                self._tenants[tenant.id] = tenant
                self._numbers[tenant.guid] = tenant.id
            for listener in list(self._listeners):
                listener(tenant)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each Tenant that changes, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)
