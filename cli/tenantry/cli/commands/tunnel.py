"""tunnel list, show, close. Its ends on this machine are in tunnel_ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tenantry.cli.completions import ended_tunnel_ids, tenant_references, tunnel_ids
from tenantry.cli.invocation import Invocation, Noun, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.output import Printer
    from tenantry.v1 import tunnel_pb2 as pb


@click.group(cls=Noun)
def tunnel() -> None:
    """Tunnels: connections from this machine to consoles and services at a Tenant, over connections that the Tenant opens."""


@tunnel.command("list")
@click.argument("reference", metavar="[TENANT]", required=False, shell_complete=tenant_references)
@click.option("--all", "ended", is_flag=True, help="Also those that are over.")
@click.option("--limit", type=click.IntRange(min=0), default=0, metavar="N", help="At most this many.  [default: all]")
@pass_invocation
def list_them(invocation: Invocation, reference: str | None, ended: bool, limit: int) -> None:
    """Tunnels that are open, at TENANT or anywhere; the newest first."""
    from itertools import islice

    from tenantry.cli.documents import to_plain
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tunnels.register import list_tunnels, tenant_names
    from tenantry.cli.tunnels.view import tunnel_columns

    printer = invocation.printer()
    with invocation.connect() as master:
        guid = find_tenant(master, reference).guid if reference else ""
        now = master.now_ms() if printer.for_people else 0
        found = islice(list_tunnels(master, guid, ended=ended), limit or None)
        columns = tunnel_columns(tenant_names(master), now, ended=ended)
        printer.listing(found, columns, to_plain, "No tunnels." if ended else "No open tunnels.")


@tunnel.command("show")
@click.argument("tunnel_id", metavar="ID", shell_complete=ended_tunnel_ids)
@pass_invocation
def show_tunnel(invocation: Invocation, tunnel_id: str) -> None:
    """One tunnel, also one that is over. ID may be the beginning of its id."""
    from tenantry.cli.tunnels.register import find_tunnel_id, tenant_names
    from tenantry.v1 import tunnel_service_pb2

    with invocation.connect() as master:
        request = tunnel_service_pb2.GetTunnelRequest(id=find_tunnel_id(master, tunnel_id, ended=True))
        found = master.call(master.tunnels.GetTunnel, request).tunnel
        printer = invocation.printer()
        _print(printer, found, tenant_names(master)(found.tenant) if printer.for_people else "")


@tunnel.command("close")
@click.argument("tunnel_id", metavar="ID", shell_complete=tunnel_ids)
@click.option("--reason", default="", metavar="TEXT", help="Why; is kept in the audit.")
@pass_invocation
def close_tunnel(invocation: Invocation, tunnel_id: str, reason: str) -> None:
    """End a tunnel with all its connections: one's own, or with the right tunnel.close another's."""
    from tenantry.cli.tunnels.register import find_tunnel_id, tenant_names
    from tenantry.v1 import tunnel_service_pb2

    with invocation.connect() as master:
        request = tunnel_service_pb2.CloseTunnelRequest(
            id=find_tunnel_id(master, tunnel_id, ended=False), reason=reason
        )
        closed = master.call(master.tunnels.CloseTunnel, request).tunnel
        printer = invocation.printer()
        _print(printer, closed, tenant_names(master)(closed.tenant) if printer.for_people else "")


def _print(printer: Printer, found: pb.Tunnel, name: str) -> None:
    from tenantry.cli.documents import to_plain
    from tenantry.cli.tunnels.view import tunnel_details

    printer.document(to_plain(found), lambda: printer.details(tunnel_details(found, name)))
