"""What a transaction changed, for those who follow the register and the streams."""

from dataclasses import dataclass, field

from tenantry.master.domain.records import StreamName


@dataclass(frozen=True, slots=True)
class Changes:
    """Tenants whose row changed, by the store's number, streams that were appended to, and what evaluation has to know of.

    ``rules``: owners of whom a rule was changed. ``rules_reset``: Tenants whose states with the rules were taken away. ``users``:
    users of whom something changed that decides what they may do: their row, a token, a certificate, a role, a membership.
    ``privacy``: who sees a Tenant was changed. ``alerts``: an alert was. ``deliveries``: there
    are new ones.
    """

    tenants: frozenset[int]
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

    tenants: set[int] = field(default_factory=set)
    streams: set[StreamName] = field(default_factory=set)
    rules: set[int] = field(default_factory=set)
    rules_reset: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    privacy: bool = False
    alerts: bool = False
    deliveries: bool = False

    def take(self) -> Changes | None:
        """What was written down; None when nothing was."""
        changed = Changes(
            frozenset(self.tenants),
            frozenset(self.streams),
            frozenset(self.rules),
            frozenset(self.rules_reset),
            frozenset(self.users),
            self.privacy,
            self.alerts,
            self.deliveries,
        )
        return None if changed == Changes(frozenset(), frozenset()) else changed
