"""What a shell offers when Tab is pressed. Asks the Master for at most a second and is silent when that fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from tenantry.cli.connection import Master

LIMIT_S: Final = 1.0
_OFFERED: Final = 100
_TYPED: Final = 200
STREAMS: Final = (
    "alerts",
    "alertsMaster",
    "auditMessages",
    "masterRegistration",
    "metricsMaster",
    "notifications",
    "notificationsMaster",
    "tenantStatusHistory",
)


def tenant_references(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Tenants as `name/instance`, or by GUID where the beginning of one was typed."""

    def ask() -> list[str]:
        from tenantry.v1 import tenant_service_pb2 as pb

        with _master(context) as master:
            text = incomplete.partition("/")[0]
            request = pb.ListTenantsRequest(filter=pb.TenantFilter(text=text), page_size=_OFFERED)
            tenants = master.call(master.tenants.ListTenants, request).tenants
        names = [f"{tenant.tenant_name}/{tenant.instance_name}" for tenant in tenants]
        offered = [name for name in names if name.startswith(incomplete) and name.isprintable()]
        return offered or [tenant.guid for tenant in tenants if tenant.guid.startswith(incomplete.lower())]

    return _silently(ask)


def stream_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Streams of the Master."""

    def ask() -> list[str]:
        from tenantry.v1 import stream_service_pb2 as pb

        with _master(context) as master:
            streams = master.call(master.streams.ListStreams, pb.ListStreamsRequest()).streams
        return [stream.name for stream in streams]

    names = _silently(ask) or list(STREAMS)
    return [name for name in names if name.startswith(incomplete)]


def rule_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Rules by name."""

    def ask() -> list[str]:
        from tenantry.v1 import rule_service_pb2 as pb

        with _master(context) as master:
            request = pb.ListRulesRequest(filter=pb.RuleFilter(text=incomplete[:_TYPED]), page_size=_OFFERED)
            rules = master.call(master.rules.ListRules, request).rules
        return [rule.name for rule in rules if rule.name.startswith(incomplete) and rule.name.isprintable()]

    return _silently(ask)


def alert_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Open alerts by id, the newest first."""

    def ask() -> list[str]:
        from tenantry.v1 import alert_service_pb2 as pb

        with _master(context) as master:
            wanted = pb.AlertFilter(open=True, id_prefix=incomplete.lower())
            request = pb.ListAlertsRequest(filter=wanted, page_size=_OFFERED)
            return [alert.id for alert in master.call(master.alerts.ListAlerts, request).alerts]

    return _silently(ask)


def window_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Maintenance windows by name."""

    def ask() -> list[str]:
        from tenantry.v1 import window_service_pb2 as pb

        with _master(context) as master:
            request = pb.ListWindowsRequest(filter=pb.WindowFilter(text=incomplete[:_TYPED]), page_size=_OFFERED)
            windows = master.call(master.windows.ListWindows, request).windows
        return [window.name for window in windows if window.name.startswith(incomplete) and window.name.isprintable()]

    return _silently(ask)


def receiver_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Receivers by name."""

    def ask() -> list[str]:
        from tenantry.v1 import receiver_service_pb2 as pb

        with _master(context) as master:
            request = pb.ListReceiversRequest(filter=pb.ReceiverFilter(text=incomplete[:_TYPED]), page_size=_OFFERED)
            receivers = master.call(master.receivers.ListReceivers, request).receivers
        return [one.name for one in receivers if one.name.startswith(incomplete) and one.name.isprintable()]

    return _silently(ask)


def user_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Users by name."""

    def ask() -> list[str]:
        from tenantry.v1 import user_service_pb2 as pb

        with _master(context) as master:
            users = master.call(master.users.ListUsers, pb.ListUsersRequest(page_size=1_000)).users
        return [user.name for user in users if user.name.startswith(incomplete.lower())][:_OFFERED]

    return _silently(ask)


def tunnel_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Tunnels that are open, by id."""
    return _tunnel_ids(context, incomplete, ended=False)


def ended_tunnel_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Tunnels by id, also those that are over."""
    return _tunnel_ids(context, incomplete, ended=True)


def _tunnel_ids(context: click.Context, incomplete: str, *, ended: bool) -> list[str]:
    def ask() -> list[str]:
        from tenantry.v1 import tunnel_service_pb2 as pb

        with _master(context) as master:
            request = pb.ListTunnelsRequest(show_closed=ended, page_size=_OFFERED)
            tunnels = master.call(master.tunnels.ListTunnels, request).tunnels
        return [tunnel.id for tunnel in tunnels if tunnel.id.startswith(incomplete.lower())]

    return _silently(ask)


def _master(context: click.Context) -> Master:
    from tenantry.cli.connection import Master
    from tenantry.cli.invocation import Invocation
    from tenantry.cli.profiles import choose_profile

    return Master(choose_profile(context.ensure_object(Invocation).profile), LIMIT_S, examine=False)


def _silently(produce: Callable[[], list[str]]) -> list[str]:
    try:
        return produce()
    except Exception as error:  # noqa: BLE001 - whatever is wrong, a completion must not write into the line being typed
        if os.environ.get("TENANTRY_DEBUG"):
            click.echo(f"\n{error!r}", err=True)
        return []
