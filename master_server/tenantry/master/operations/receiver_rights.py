"""What a caller may do with which receivers."""

from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, Permission
from tenantry.master.domain.receivers import Receiver, Subscription
from tenantry.master.operations.owned_rights import OwnedKind, OwnedRights, owned_rights
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.protocol.failures import NotAllowed, ReceiverNotFound

ReceiverRights = OwnedRights[Receiver]
"""Where one caller reads receivers, and where this caller changes them."""

_RECEIVERS: Final[OwnedKind[Receiver]] = OwnedKind(
    get=lambda transaction, uid: transaction.receivers.get(uid),
    narrowed=lambda transaction, sight: transaction.receivers.narrowed(sight),
    missing=lambda uid: ReceiverNotFound(receiver=uid),
    read=Permission.RECEIVER_READ,
    write=Permission.RECEIVER_WRITE,
)


def receiver_rights(visibility: Visibility, viewer: Viewer) -> ReceiverRights:
    """Those of a caller as of now."""
    return owned_rights(_RECEIVERS, visibility, viewer)


def check_may_subscribe(viewer: Viewer, owner: int, subscription: Subscription) -> None:
    """Let a caller go on who reads the alerts that a receiver of this owner subscribes to, or has subscribed to. Raises NotAllowed.

    They are Tenants' own: `main` hears of every Tenant, and therefore only who reads them everywhere lets it, or says where it hears.
    """
    if not subscription:
        return
    read = viewer.access.owners(Permission.ALERT_READ)
    if read is not None and (owner == MAIN_OWNER or owner not in read):
        raise NotAllowed(permission=Permission.ALERT_READ)
