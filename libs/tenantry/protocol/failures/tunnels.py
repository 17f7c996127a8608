"""Tunnels and the connections through them."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import (
    EXIT_BUG,
    EXIT_DENIED,
    EXIT_LIMIT,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
    Failure,
)


class TunnelNotFound(Failure):
    """No such tunnel, or one at a Tenant that the caller does not see. Metadata: ``tunnel``."""

    reason = "TUNNEL_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no tunnel {tunnel}"
    hint = "`tenantry tunnel list` shows the tunnels that there are, with `--all` also those that are over."
    exit_code = EXIT_NOT_FOUND


class TunnelNotAllowed(Failure):
    """The Tenant's policy, its hours or its people said no; what would be allowed is not told. Metadata: ``end``, ``cause``."""

    reason = "TUNNEL_NOT_ALLOWED"
    code = "PERMISSION_DENIED"
    message = "refused at the Tenant: {cause}"
    hint = "Whoever looks after the Tenant's machine decides, with the daemon's policy for tunnels and `tenantry-daemon consent`."
    exit_code = EXIT_DENIED


class TunnelReasonMissing(Failure):
    """The Tenant's policy wants a reason."""

    reason = "TUNNEL_REASON_MISSING"
    code = "FAILED_PRECONDITION"
    message = "the Tenant allows no tunnel without a reason"
    hint = "Say why with `--reason`."
    exit_code = EXIT_USAGE


class TunnelNotOffered(Failure):
    """The Tenant or the Master serves no tunnels. Metadata: ``cause``."""

    reason = "TUNNEL_NOT_OFFERED"
    code = "FAILED_PRECONDITION"
    message = "there are no tunnels here: {cause}"
    hint = "The Master's setting `tunnels_listen`, the daemon's version and its local console decide."
    exit_code = EXIT_WRONG_STATE


class TunnelsTooMany(Failure):
    """A limit on tunnels, connections or attempts. Metadata: ``limit``: how many of what."""

    reason = "TUNNELS_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "a limit is reached: {limit}"
    hint = "Close what nobody needs, or try again in a moment."
    exit_code = EXIT_LIMIT


class TunnelClosed(Failure):
    """The tunnel is over. Metadata: ``end`` (a TunnelEnd in lower case), ``detail``."""

    reason = "TUNNEL_CLOSED"
    code = "ABORTED"
    message = "the tunnel is over: {detail}"
    hint = "Open another one if it is still needed."
    exit_code = EXIT_UNREACHABLE


class TunnelKeyRefused(Failure):
    """Tunnel and key do not open a connection: wrong, or the tunnel is over; the answer never tells which."""

    reason = "TUNNEL_KEY_REFUSED"
    code = "UNAUTHENTICATED"
    message = "the Master refuses this tunnel and key"
    hint = "Open the tunnel again."
    exit_code = EXIT_DENIED


class TunnelTicketRefused(Failure):
    """What was signed for a tunnel or a connection is not good here. Metadata: ``cause``."""

    reason = "TUNNEL_TICKET_REFUSED"
    code = "PERMISSION_DENIED"
    message = "the ticket is refused: {cause}"
    hint = "Try again; when it is refused each time, compare the clocks of the Master and of the Tenant's machine."
    exit_code = EXIT_DENIED


class TunnelProtocolViolated(Failure):
    """A frame came out of turn or breaks the rules. Metadata: ``problem``."""

    reason = "TUNNEL_PROTOCOL_VIOLATED"
    code = "INVALID_ARGUMENT"
    message = "the protocol of tunnels was violated: {problem}"
    hint = "The two ends disagree about the protocol; compare their versions."
    exit_code = EXIT_BUG


class TargetRefused(Failure):
    """Nobody listens there. Metadata: ``target``."""

    reason = "TARGET_REFUSED"
    code = "UNAVAILABLE"
    message = "{target} refused the connection"
    hint = "Check at the Tenant's machine that the service runs and listens there."
    exit_code = EXIT_UNREACHABLE


class TargetTimedOut(Failure):
    """The target did not answer the attempt to connect. Metadata: ``target``."""

    reason = "TARGET_TIMED_OUT"
    code = "UNAVAILABLE"
    message = "{target} did not answer in time"
    hint = "A firewall between the Tenant's machine and the target may swallow the attempt."
    exit_code = EXIT_UNREACHABLE


class TargetUnreachable(Failure):
    """No way to the target's network or machine. Metadata: ``target``."""

    reason = "TARGET_UNREACHABLE"
    code = "UNAVAILABLE"
    message = "the Tenant's machine has no way to {target}"
    hint = "Check the address, and the routes of the Tenant's machine."
    exit_code = EXIT_UNREACHABLE


class TargetNotFound(Failure):
    """The target's name is not known at the Tenant. Metadata: ``target``."""

    reason = "TARGET_NOT_FOUND"
    code = "NOT_FOUND"
    message = "the Tenant's machine cannot resolve the name of {target}"
    hint = "Names are resolved at the Tenant; check the spelling there."
    exit_code = EXIT_NOT_FOUND


class TenantNotConnected(Failure):
    """The Tenant has no link now, or does not answer over it. Metadata: ``tenant``."""

    reason = "TENANT_NOT_CONNECTED"
    code = "UNAVAILABLE"
    message = "the Tenant {tenant} is not connected now"
    hint = "`tenantry tenant show` says when it was seen last."
    exit_code = EXIT_UNREACHABLE
