"""What a caller may do with which owned objects, such as rules and receivers: rights at the owner, narrowed by each one's own privacy.

Owners are looked up in memory when the call begins, objects in the transaction that serves it. An object that the caller does not see
takes the same way and gives the same failure as one that is not there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tenantry.master.domain.access import Permission, Sight, sight_of
from tenantry.master.domain.privacy import Deed, Privacy
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility, deeds_of
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure, NotAllowed


class _Draft(Protocol):
    @property
    def privacy(self) -> Privacy: ...


class Owned(Protocol):
    """Something with an owner and a privacy."""

    @property
    def owner(self) -> int:
        """The store's number of a Tenant, or that of the main or of the shared one."""

    @property
    def draft(self) -> _Draft:
        """What an operator said of it."""


T = TypeVar("T", bound=Owned)


@dataclass(frozen=True, slots=True)
class OwnedKind(Generic[T]):
    """One kind of owned objects. ``get`` raises where there is none; ``narrowed`` gives those within sight whose privacy narrows
    something, as number, owner and privacy; ``missing`` makes the failure about an id.
    """

    get: Callable[[Transaction, str], T]
    narrowed: Callable[[Transaction, Sight], list[tuple[int, int, Privacy]]]
    missing: Callable[[str], Failure]
    read: Permission
    write: Permission


@dataclass(frozen=True, slots=True)
class OwnedRights(Generic[T]):
    """Where one caller reads objects of a kind, and where this caller changes them: numbers of owners, None for all."""

    kind: OwnedKind[T]
    viewer: Viewer
    read: frozenset[int] | None
    changed: frozenset[int] | None

    @property
    def sight(self) -> Sight:
        """The owners whose objects the caller reads."""
        return sight_of(self.read)

    def sees(self, one: T) -> bool:
        """Whether the caller sees it."""
        return Deed.VIEW in deeds_of(self.viewer, one.owner, one.draft.privacy) and _holds(self.read, one.owner)

    def find(self, transaction: Transaction, uid: str) -> T:
        """The object. Raises the kind's failure, also where the caller does not see it."""
        found = self.kind.get(transaction, uid)
        if not self.sees(found):
            raise self.kind.missing(uid)
        return found

    def require(self, transaction: Transaction, uid: str, deed: Deed) -> T:
        """The object, with which the caller may do this. Raises as `find` does, and NotAllowed."""
        found = self.find(transaction, uid)
        if deed not in deeds_of(self.viewer, found.owner, found.draft.privacy) or not _holds(self.changed, found.owner):
            raise NotAllowed(permission=self.kind.write)
        return found

    def hidden(self, transaction: Transaction) -> frozenset[int]:
        """The numbers of those objects within sight whose privacy keeps them from the caller."""
        if self.viewer.unbounded:
            return frozenset()
        return frozenset(
            number
            for number, owner, privacy in self.kind.narrowed(transaction, self.sight)
            if Deed.VIEW not in deeds_of(self.viewer, owner, privacy)
        )


def owned_rights(kind: OwnedKind[T], visibility: Visibility, viewer: Viewer) -> OwnedRights[T]:
    """Those of a caller as of now. To change a Tenant's objects takes that its privacy lets the caller edit it."""
    return OwnedRights(
        kind, viewer, visibility.owners(viewer, kind.read), visibility.owners(viewer, kind.write, Deed.EDIT)
    )


def _holds(owners: frozenset[int] | None, owner: int) -> bool:
    return owners is None or owner in owners
