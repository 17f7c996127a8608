"""The life cycle of a Tenant as a table: the truth for moves, error messages and documentation."""

from enum import StrEnum
from typing import Final

from tenantry.protocol.failures import TenantInWrongState
from tenantry.protocol.messages import TenantState


class LifecycleEvent(StrEnum):
    """What moves a Tenant."""

    FIRST_CONNECTION = "first connection"
    ACTIVATED = "activated by an operator"
    MAINTAINED = "put into maintenance by an operator"
    ALERTED = "put into alert by an operator"
    RULE_ALERTED = "put into alert by a rule"
    RULE_CALMED = "put back to active by a rule"
    DELETED = "deleted by an operator"


_S, _E = TenantState, LifecycleEvent

LIFECYCLE: Final[dict[tuple[TenantState, LifecycleEvent], TenantState]] = {
    (_S.UNREGISTERED, _E.FIRST_CONNECTION): _S.MAINTENANCE,
    (_S.MAINTENANCE, _E.ACTIVATED): _S.ACTIVE,
    (_S.ALERT, _E.ACTIVATED): _S.ACTIVE,
    (_S.ACTIVE, _E.MAINTAINED): _S.MAINTENANCE,
    (_S.ALERT, _E.MAINTAINED): _S.MAINTENANCE,
    (_S.ACTIVE, _E.ALERTED): _S.ALERT,
    (_S.ACTIVE, _E.RULE_ALERTED): _S.ALERT,
    (_S.ALERT, _E.RULE_CALMED): _S.ACTIVE,
    (_S.UNREGISTERED, _E.DELETED): _S.DELETED,
    (_S.MAINTENANCE, _E.DELETED): _S.DELETED,
    (_S.ACTIVE, _E.DELETED): _S.DELETED,
    (_S.ALERT, _E.DELETED): _S.DELETED,
}

# Where an event wants to go, for the message of a refusal.
WANTED: Final[dict[LifecycleEvent, TenantState]] = {event: after for (_, event), after in LIFECYCLE.items()}

OPERATOR_EVENTS: Final = frozenset({_E.ACTIVATED, _E.MAINTAINED, _E.ALERTED})

_STUCK: Final = {
    _S.UNREGISTERED: "nothing until its first connection, which moves it to maintenance",
    _S.DELETED: "nothing; its GUID is never used again",
}
"""Why an operator can do nothing from here."""

SUPERVISED: Final = frozenset({_S.ACTIVE, _S.ALERT})
"""States in which silence makes a Tenant stale and lost."""


def move(guid: str, state: TenantState, event: LifecycleEvent) -> TenantState:
    """The state after ``event``. Raises TenantInWrongState with the states that an operator may choose from here."""
    after = LIFECYCLE.get((state, event))
    if after is None:
        raise TenantInWrongState(
            tenant=guid,
            state=state.value,
            wanted=WANTED[event].value,
            allowed=", ".join(allowed_from(state)) or _STUCK[state],
        )
    return after


def allowed_from(state: TenantState) -> list[str]:
    """The states to which an operator may move a Tenant from ``state``, sorted."""
    return sorted(
        {after.value for (before, event), after in LIFECYCLE.items() if before is state and event in OPERATOR_EVENTS}
    )
