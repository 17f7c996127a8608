"""How a tunnel stands, and why it, or a connection through it, is over."""

from __future__ import annotations

from enum import Enum
from typing import Final


class TunnelState(Enum):
    """How a tunnel stands."""

    ASKED = "asked"
    WAITING_FOR_CONSENT = "waiting_for_consent"
    OPEN = "open"
    CLOSED = "closed"

    __hash__ = object.__hash__


class TunnelEnd(Enum):
    """Why a tunnel, or a connection through one, did not come about or ended. In the order of the contract; see tunnel.proto."""

    BY_OPERATOR = "by_operator"
    BY_ADMINISTRATOR = "by_administrator"
    BY_TENANT = "by_tenant"
    RIGHTS = "rights"
    TENANT_REVOKED = "tenant_revoked"
    STATE = "state"
    IDLE = "idle"
    LONGEST = "longest"
    LINK_LOST = "link_lost"
    MASTER_STOPPED = "master_stopped"
    POLICY = "policy"
    HOURS = "hours"
    REASON_MISSING = "reason_missing"
    CONSENT_DENIED = "consent_denied"
    CONSENT_TIMED_OUT = "consent_timed_out"
    LIMIT = "limit"
    TICKET = "ticket"
    NO_ANSWER = "no_answer"
    TARGET_REFUSED = "target_refused"
    TARGET_TIMED_OUT = "target_timed_out"
    TARGET_UNREACHABLE = "target_unreachable"
    TARGET_NOT_FOUND = "target_not_found"
    PROTOCOL = "protocol"
    FINISHED = "finished"
    RESET = "reset"
    NOT_OFFERED = "not_offered"
    NOT_WRITTEN = "not_written"

    __hash__ = object.__hash__

    @property
    def number(self) -> int:
        """Its number in the contract."""
        return _NUMBERS[self]

    def describe(self) -> str:
        """What it says to a person."""
        return _WORDS[self]


_NUMBERS: Final = {end: number for number, end in enumerate(TunnelEnd, 1)}
_ENDS: Final = {number: end for end, number in _NUMBERS.items()}
_WORDS: Final = {
    TunnelEnd.BY_OPERATOR: "the operator's end closed it",
    TunnelEnd.BY_ADMINISTRATOR: "somebody with the right to closed it",
    TunnelEnd.BY_TENANT: "somebody at the Tenant's machine closed it",
    TunnelEnd.RIGHTS: "the operator's rights ended",
    TunnelEnd.TENANT_REVOKED: "the Tenant was deleted, re-keyed, quarantined or its certificate revoked",
    TunnelEnd.STATE: "the Tenant's state allows no tunnels",
    TunnelEnd.IDLE: "nothing was sent for too long",
    TunnelEnd.LONGEST: "its longest duration is over",
    TunnelEnd.LINK_LOST: "the Tenant was away for too long, or its daemon was started anew",
    TunnelEnd.MASTER_STOPPED: "the Master stopped",
    TunnelEnd.POLICY: "the Tenant's policy does not allow this",
    TunnelEnd.HOURS: "the Tenant allows no tunnels at this hour",
    TunnelEnd.REASON_MISSING: "the Tenant wants a reason",
    TunnelEnd.CONSENT_DENIED: "somebody at the Tenant's machine said no",
    TunnelEnd.CONSENT_TIMED_OUT: "nobody at the Tenant's machine said yes in time",
    TunnelEnd.LIMIT: "there are too many tunnels, connections or attempts",
    TunnelEnd.TICKET: "the Tenant did not believe the Master's ticket",
    TunnelEnd.NO_ANSWER: "the Tenant did not answer in time",
    TunnelEnd.TARGET_REFUSED: "the target refused the connection",
    TunnelEnd.TARGET_TIMED_OUT: "the target did not answer in time",
    TunnelEnd.TARGET_UNREACHABLE: "there is no way to the target",
    TunnelEnd.TARGET_NOT_FOUND: "the target's name is not known at the Tenant",
    TunnelEnd.PROTOCOL: "an end broke the rules of the protocol",
    TunnelEnd.FINISHED: "both sides have said all",
    TunnelEnd.RESET: "the connection was reset",
    TunnelEnd.NOT_OFFERED: "the Tenant offers no tunnels",
    TunnelEnd.NOT_WRITTEN: "the Master could not write down that it is open",
}


def end_of_number(number: int) -> TunnelEnd | None:
    """The end with this number in the contract; None for one that is not known: a newer peer may say more."""
    return _ENDS.get(number)
