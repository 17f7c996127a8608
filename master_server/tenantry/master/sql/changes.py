"""What a transaction changed, for those who follow the register and the streams."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tenantry.master.domain.records import StreamName
from tenantry.master.domain.tenants import Tenant


@dataclass(frozen=True, slots=True)
class Changes:
    """Tenants whose row changed, as they are now, by the store's number, streams that were appended to, and what evaluation has to
    know of.

    ``rules``: owners of whom a rule was changed. ``rules_reset``: Tenants whose states with the rules were taken away. ``users``:
    users of whom something changed that decides what they may do: their row, a token, a certificate, a role, a membership.
    ``privacy``: who sees a Tenant was changed. ``alerts``: an alert was. ``deliveries``: there
    are new ones.
    """

    tenants: Mapping[int, Tenant]
    streams: frozenset[StreamName]
    rules: frozenset[int] = frozenset()
    rules_reset: frozenset[int] = frozenset()
    users: frozenset[int] = frozenset()
    privacy: bool = False
    alerts: bool = False
    deliveries: bool = False


@dataclass(slots=True)
class ChangeLog:
    """Where the stores of one transaction write down what they change."""

    tenants: dict[int, Tenant | None] = field(default_factory=dict)
    """As they were saved; None where that is not known."""
    streams: set[StreamName] = field(default_factory=set)
    rules: set[int] = field(default_factory=set)
    rules_reset: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    privacy: bool = False
    alerts: bool = False
    deliveries: bool = False

    def doubt_tenants(self, tenant_ids: Iterable[int] | None = None) -> None:
        """What was saved of these (None: of all) is not all that is to be known of them."""
        for number in list(self.tenants) if tenant_ids is None else tenant_ids:
            self.tenants[number] = None

    def learn_tenants(self, tenants: Iterable[Tenant]) -> None:
        """These are as the transaction leaves them."""
        for tenant in tenants:
            self.tenants[tenant.id] = tenant

    @property
    def doubtful_tenants(self) -> list[int]:
        """Those that are to be read before `take`."""
        return sorted(number for number, tenant in self.tenants.items() if tenant is None)

    def take(self) -> Changes | None:
        """What was written down; None when nothing was."""
        changed = Changes(
            {number: tenant for number, tenant in self.tenants.items() if tenant is not None},
            frozenset(self.streams),
            frozenset(self.rules),
            frozenset(self.rules_reset),
            frozenset(self.users),
            self.privacy,
            self.alerts,
            self.deliveries,
        )
        return None if changed == Changes({}, frozenset()) else changed
