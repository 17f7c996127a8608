"""What a transaction changed, for those who follow the register and the streams."""

from dataclasses import dataclass, field

from tenantry.master.domain.records import StreamName


@dataclass(frozen=True, slots=True)
class Changes:
    """Tenants whose row changed, by the store's number, and streams that were appended to."""

    tenants: frozenset[int]
    streams: frozenset[StreamName]


@dataclass(slots=True)
class ChangeLog:
    """Where the stores of one transaction write down what they change."""

    tenants: set[int] = field(default_factory=set)
    streams: set[StreamName] = field(default_factory=set)

    def take(self) -> Changes | None:
        """What was written down; None when nothing was."""
        if not self.tenants and not self.streams:
            return None
        return Changes(frozenset(self.tenants), frozenset(self.streams))
