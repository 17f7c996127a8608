"""What a caller may do with which receivers."""

from typing import Final

from tenantry.master.domain.access import Permission
from tenantry.master.domain.receivers import Receiver
from tenantry.master.operations.owned_rights import OwnedKind, OwnedRights, owned_rights
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.protocol.failures import ReceiverNotFound

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
