"""What a caller may do with which rules."""

from typing import Final

from tenantry.master.domain.access import Permission
from tenantry.master.domain.rules import Rule
from tenantry.master.operations.owned_rights import OwnedKind, OwnedRights, owned_rights
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.protocol.failures import RuleNotFound

RuleRights = OwnedRights[Rule]
"""Where one caller reads rules, and where this caller changes them."""

_RULES: Final[OwnedKind[Rule]] = OwnedKind(
    get=lambda transaction, uid: transaction.rules.get(uid),
    narrowed=lambda transaction, sight: transaction.rules.narrowed(sight),
    missing=lambda uid: RuleNotFound(rule=uid),
    read=Permission.RULE_READ,
    write=Permission.RULE_WRITE,
)


def rule_rights(visibility: Visibility, viewer: Viewer) -> RuleRights:
    """Those of a caller as of now."""
    return owned_rights(_RULES, visibility, viewer)
