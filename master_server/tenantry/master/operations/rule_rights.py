"""What a caller may do with which rules."""

from typing import Final

from tenantry.master.domain.access import SHARED_OWNER, Permission
from tenantry.master.domain.rules import ActionKind, Rule, RuleDraft
from tenantry.master.operations.owned_rights import OwnedKind, OwnedRights, owned_rights
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.protocol.failures import NotAllowed, RuleNotFound

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


_MOVES: Final = frozenset({ActionKind.TO_ALERT, ActionKind.TO_ACTIVE})


def check_may_let_act(viewer: Viewer, owner: int, draft: RuleDraft) -> None:
    """Let a caller go on who may do at the rule's owner what this rule does there: read, and where it moves Tenants, move.

    Roles that write rules may do both; a token can be narrowed to less. What is in the library does nothing. Raises NotAllowed.
    """
    if owner == SHARED_OWNER:
        return
    wanted = [Permission.STREAM_READ]
    if any(action.kind in _MOVES for action in draft.actions):
        wanted.append(Permission.TENANT_MOVE)
    for permission in wanted:
        if not viewer.access.allows(permission, owner):
            raise NotAllowed(permission=permission)
