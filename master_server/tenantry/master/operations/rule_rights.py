"""What a caller may do with which rules: rights at the owner, narrowed by each rule's own privacy.

Owners are looked up in memory when the call begins, rules in the transaction that serves it. A rule that the caller does not see takes
the same way and gives the same failure as one that is not there.
"""

from dataclasses import dataclass

from tenantry.master.domain.access import Permission, Sight, sight_of
from tenantry.master.domain.privacy import Deed
from tenantry.master.domain.rules import Rule
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility, deeds_of
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import NotAllowed, RuleNotFound


@dataclass(frozen=True, slots=True)
class RuleRights:
    """Where one caller reads rules, and where this caller changes them: numbers of owners, None for all."""

    viewer: Viewer
    read: frozenset[int] | None
    changed: frozenset[int] | None

    @property
    def sight(self) -> Sight:
        """The owners whose rules the caller reads."""
        return sight_of(self.read)

    def find(self, transaction: Transaction, uid: str) -> Rule:
        """The rule. Raises RuleNotFound, also where the caller does not see it."""
        return self._find(transaction, uid)[0]

    def require(self, transaction: Transaction, uid: str, deed: Deed) -> Rule:
        """The rule, with which the caller may do this. Raises as `find` does, and NotAllowed."""
        rule, deeds = self._find(transaction, uid)
        if deed not in deeds or not _holds(self.changed, rule.owner):
            raise NotAllowed(permission=Permission.RULE_WRITE)
        return rule

    def hidden(self, transaction: Transaction) -> frozenset[int]:
        """The numbers of those rules within sight whose privacy keeps them from the caller."""
        if self.viewer.unbounded:
            return frozenset()
        return frozenset(
            number
            for number, owner, privacy in transaction.rules.narrowed(self.sight)
            if Deed.VIEW not in deeds_of(self.viewer, owner, privacy)
        )

    def _find(self, transaction: Transaction, uid: str) -> tuple[Rule, frozenset[Deed]]:
        rule = transaction.rules.get(uid)
        deeds = deeds_of(self.viewer, rule.owner, rule.draft.privacy)
        if Deed.VIEW not in deeds or not _holds(self.read, rule.owner):
            raise RuleNotFound(rule=uid)
        return rule, deeds


def rule_rights(visibility: Visibility, viewer: Viewer) -> RuleRights:
    """Those of a caller as of now. To change a Tenant's rules takes that its privacy lets the caller edit it."""
    return RuleRights(
        viewer,
        visibility.owners(viewer, Permission.RULE_READ),
        visibility.owners(viewer, Permission.RULE_WRITE, Deed.EDIT),
    )


def _holds(owners: frozenset[int] | None, owner: int) -> bool:
    return owners is None or owner in owners
