"""The way back: for a rule that moves Tenants to Alert, one that moves them to Active."""

from dataclasses import replace
from typing import Final

from tenantry.detection.levels import LEVELS, Level
from tenantry.master.domain.rules import Action, ActionKind, Limit, RuleDraft
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.names import MAX_NAME

SHARE: Final = 0.1
"""The margin where the rule has none, as a share of its threshold."""
LEAST: Final = 0.05
"""The margin of a threshold of zero."""
_SUFFIX: Final = " (back)"
_OPPOSITE: Final = {">": "<", ">=": "<", "<": ">", "<=": ">"}


def propose_pair(draft: RuleDraft) -> RuleDraft:
    """A rule that is never at the same threshold as its pair: the value has to come back by a margin, and to stay there as long.

    The mildest threshold that moves to Alert counts. Raises FieldInvalid for a rule that moves nothing to Alert.
    """
    condition = draft.condition
    moving = {level for action in draft.actions if action.kind is ActionKind.TO_ALERT for level in action.levels}
    levels = [level for level in LEVELS if level in moving and level in condition.limits]
    if not levels:
        raise FieldInvalid(field="actions", problem="move no Tenant to Alert", expected="an action to_alert")
    limit = condition.limits[levels[-1]]
    margin = condition.margin or abs(limit.value) * SHARE or LEAST
    back = limit.value + (-margin if limit.operator in (">", ">=") else margin)
    return RuleDraft(
        name=draft.name[: MAX_NAME - len(_SUFFIX)] + _SUFFIX,
        condition=replace(
            condition,
            limits={Level.MINOR: Limit(_OPPOSITE[limit.operator], back)},
            margin=0.0,
            for_ms=condition.clear_for_ms or condition.for_ms,
            clear_for_ms=0,
        ),
        actions=(Action(ActionKind.TO_ACTIVE, frozenset({Level.MINOR})),),
        description=f"The way back from {draft.name}.",
        tags=draft.tags,
        score=1,
        active=draft.active,
        privacy=draft.privacy,
    )
