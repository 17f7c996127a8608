"""The Master's register of tunnels: pages of it, and which one is meant by what an operator types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.references import MIN_PREFIX
from tenantry.cli.troubles import TunnelAmbiguous
from tenantry.protocol.failures import Failure, FieldInvalid, TunnelNotFound
from tenantry.protocol.names import check_guid
from tenantry.v1 import tenant_service_pb2 as tenant_pb
from tenantry.v1 import tunnel_pb2 as pb
from tenantry.v1 import tunnel_service_pb2 as service_pb

PAGE: Final = 500
_CANDIDATES: Final = 8


def list_tunnels(master: Master, tenant: str = "", *, ended: bool = False) -> Iterator[pb.Tunnel]:
    """All tunnels that the caller sees, page by page as they are wanted, the newest first; of one Tenant, or of all.

    Raises as `Master.call`.
    """
    request = service_pb.ListTunnelsRequest(tenant=tenant, show_closed=ended, page_size=PAGE)
    while True:
        page = master.call(master.tunnels.ListTunnels, request)
        yield from page.tunnels
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def find_tunnel_id(master: Master, reference: str, *, ended: bool) -> str:
    """The id of the one tunnel that is meant by an id or the beginning of one.

    Raises TunnelNotFound, TunnelAmbiguous, and whatever the call raises.
    """
    lower = reference.lower()
    try:
        return check_guid(lower)
    except FieldInvalid:
        if len(lower) < MIN_PREFIX:
            raise TunnelNotFound(tunnel=reference) from None
    found = [tunnel.id for tunnel in list_tunnels(master, ended=ended) if tunnel.id.startswith(lower)]
    if not found:
        raise TunnelNotFound(tunnel=reference)
    if len(found) > 1:
        shown = "\n".join(f"  {one}" for one in found[:_CANDIDATES])
        raise TunnelAmbiguous(
            f"{reference!r} may be any of these tunnels:\n{shown}",
            "Give more of its beginning.",
            {"candidates": " ".join(found[:_CANDIDATES])},
        )
    return found[0]


def tenant_names(master: Master) -> Callable[[str], str]:
    """A function that knows a Tenant's names by its GUID, and asks once for each; the GUID where there are none to be had."""

    @cache
    def name_of(guid: str) -> str:
        try:
            tenant = master.call(master.tenants.GetTenant, tenant_pb.GetTenantRequest(guid=guid)).tenant
        except Failure:
            return guid
        return f"{tenant.tenant_name}/{tenant.instance_name}"

    return name_of
