"""What a caller may do with which alerts: rights at the owner, narrowed by the privacy of the Tenant that this is.

As with rules, owners are looked up in memory when the call begins, and alerts in the transaction that serves it.
"""

from dataclasses import dataclass

from tenantry.master.domain.access import Permission, Sight, sight_of
from tenantry.master.domain.alerts import Alert
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import AlertNotFound, NotAllowed


@dataclass(frozen=True, slots=True)
class AlertRights:
    """Where one caller reads alerts, and where this caller works on them: numbers of owners, None for all."""

    viewer: Viewer
    read: frozenset[int] | None
    worked: frozenset[int] | None

    @property
    def sight(self) -> Sight:
        """The owners whose alerts the caller reads."""
        return sight_of(self.read)

    def find(self, transaction: Transaction, uid: str) -> Alert:
        """The alert. Raises AlertNotFound, also where the caller does not see it."""
        alert = transaction.alerts.get(uid)
        if not _holds(self.read, alert.owner):
            raise AlertNotFound(alert=uid)
        return alert

    def require(self, transaction: Transaction, uid: str) -> Alert:
        """The alert, on which the caller may work. Raises as `find` does, and NotAllowed."""
        alert = self.find(transaction, uid)
        if not _holds(self.worked, alert.owner):
            raise NotAllowed(permission=Permission.ALERT_WORK)
        return alert


def alert_rights(visibility: Visibility, viewer: Viewer) -> AlertRights:
    """Those of a caller as of now."""
    return AlertRights(
        viewer,
        visibility.owners(viewer, Permission.ALERT_READ),
        visibility.owners(viewer, Permission.ALERT_WORK),
    )


def _holds(owners: frozenset[int] | None, owner: int) -> bool:
    return owners is None or owner in owners
