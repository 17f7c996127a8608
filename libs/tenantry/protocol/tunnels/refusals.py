"""Which failure a caller is told for an end."""

from __future__ import annotations

from typing import Final

from tenantry.protocol.failures import (
    Failure,
    TargetNotFound,
    TargetRefused,
    TargetTimedOut,
    TargetUnreachable,
    TenantNotConnected,
    TunnelClosed,
    TunnelNotAllowed,
    TunnelNotOffered,
    TunnelProtocolViolated,
    TunnelReasonMissing,
    TunnelsTooMany,
    TunnelTicketRefused,
)
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.targets import Target

_NOT_ALLOWED: Final = frozenset(
    {TunnelEnd.POLICY, TunnelEnd.HOURS, TunnelEnd.CONSENT_DENIED, TunnelEnd.CONSENT_TIMED_OUT}
)
_WITH_A_REASON: Final = frozenset({TunnelEnd.BY_OPERATOR, TunnelEnd.BY_ADMINISTRATOR})
"""Ends whose detail is what somebody said, and not what happened."""
_TARGET: Final[dict[TunnelEnd, type[Failure]]] = {
    TunnelEnd.TARGET_REFUSED: TargetRefused,
    TunnelEnd.TARGET_TIMED_OUT: TargetTimedOut,
    TunnelEnd.TARGET_UNREACHABLE: TargetUnreachable,
    TunnelEnd.TARGET_NOT_FOUND: TargetNotFound,
}


def failure_of_end(end: TunnelEnd, detail: str, tenant: str, target: Target | None = None) -> Failure:
    """What the operator's call fails with when a tunnel, or a connection to ``target``, did not come about or ended so."""
    words = detail or end.describe()
    if detail and end in _WITH_A_REASON:
        words = f"{end.describe()}: {detail}"
    if end in _NOT_ALLOWED:
        return TunnelNotAllowed(end=end.value, cause=words)
    if end in _TARGET:
        return _TARGET[end](target=str(target) if target is not None else "the target")
    match end:
        case TunnelEnd.REASON_MISSING:
            return TunnelReasonMissing()
        case TunnelEnd.NOT_OFFERED:
            return TunnelNotOffered(cause=words)
        case TunnelEnd.LIMIT:
            return TunnelsTooMany(limit=f"at the Tenant, {words}")
        case TunnelEnd.TICKET:
            return TunnelTicketRefused(cause=words)
        case TunnelEnd.NO_ANSWER:
            return TenantNotConnected(tenant=tenant)
        case TunnelEnd.PROTOCOL:
            return TunnelProtocolViolated(problem=words)
        case _:
            return TunnelClosed(end=end.value, detail=words)
