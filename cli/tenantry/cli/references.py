"""Which Tenant is meant by what an operator types: a GUID, the beginning of one, `name/instance`, or a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.troubles import TenantAmbiguous
from tenantry.protocol.failures import FieldInvalid, NotAllowed, TenantNotFound
from tenantry.protocol.names import check_guid
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb

MIN_PREFIX: Final = 4
PAGE: Final = 500
_CANDIDATES: Final = 8
_PREFIX: Final = re.compile(rf"[0-9a-f-]{{{MIN_PREFIX},36}}")


def find_tenant(master: Master, reference: str) -> pb.Tenant:
    """The one Tenant that is meant. A deleted one is found by its whole GUID only.

    Raises TenantNotFound, TenantAmbiguous with the candidates, and whatever the call raises.
    """
    if guid := _as_guid(reference):
        request = service_pb.GetTenantRequest(guid=guid)
        return master.call(master.tenants.GetTenant, request).tenant
    candidates: dict[str, pb.Tenant] = {}
    for tenant_filter in _filters(reference):
        for tenant in list_tenants(master, service_pb.ListTenantsRequest(filter=tenant_filter, page_size=PAGE)):
            if tenant_filter.text == "" or tenant.guid.startswith(reference.lower()):
                candidates[tenant.guid] = tenant
            if len(candidates) > _CANDIDATES:
                break
    if not candidates:
        raise TenantNotFound(tenant=reference)
    if len(candidates) > 1:
        raise _ambiguous(reference, list(candidates.values()))
    return next(iter(candidates.values()))


def find_guid(master: Master, reference: str) -> str:
    """The GUID of the one Tenant that is meant, for calls that need no right to see it: for who may see no Tenant at all, a whole
    GUID stands for itself. Raises as `find_tenant`.
    """
    try:
        return find_tenant(master, reference).guid
    except TenantNotFound:
        guid = _as_guid(reference)
        if guid is None or _sees_tenants(master):
            raise
        return guid


def _sees_tenants(master: Master) -> bool:
    try:
        master.call(master.tenants.ListTenants, service_pb.ListTenantsRequest(page_size=1))
    except NotAllowed:
        return False
    return True


def list_tenants(
    master: Master, request: service_pb.ListTenantsRequest, progress: Callable[[int, int], None] | None = None
) -> Iterator[pb.Tenant]:
    """All Tenants of a listing, page by page as they are wanted; the next page is on its way while one is read.

    `progress` is told how many were read and how many there are. Raises whatever the call raises.
    """
    done = 0
    answer = master.call(master.tenants.ListTenants, request)
    while True:
        following = None
        if answer.next_page_token:
            request = service_pb.ListTenantsRequest(
                page_size=request.page_size,
                page_token=answer.next_page_token,
                filter=request.filter,
                order=request.order,
            )
            following = master.begin(master.tenants.ListTenants, request)
        for tenant in answer.tenants:
            done += 1
            yield tenant
        if progress is not None:
            progress(done, max(done, answer.total_size))
        if following is None:
            return
        answer = following()


def _as_guid(reference: str) -> str | None:
    try:
        return check_guid(reference.lower())
    except FieldInvalid:
        return None


def _filters(reference: str) -> list[service_pb.TenantFilter]:
    filters = [service_pb.TenantFilter(tenant_name=reference)]
    # Names may hold slashes themselves: every place to divide is tried.
    for slash in re.finditer("/", reference):
        name, instance = reference[: slash.start()], reference[slash.end() :]
        if name and instance:
            filters.append(service_pb.TenantFilter(tenant_name=name, instance_name=instance))
    if _PREFIX.fullmatch(reference.lower()):
        filters.append(service_pb.TenantFilter(text=reference.lower()))
    return filters


def _ambiguous(reference: str, candidates: list[pb.Tenant]) -> TenantAmbiguous:
    shown = [f"  {tenant.guid}  {tenant.tenant_name}/{tenant.instance_name}" for tenant in candidates[:_CANDIDATES]]
    if len(candidates) > _CANDIDATES:
        shown.append("  ...")
    return TenantAmbiguous(
        f"{reference!r} may be any of these Tenants:\n" + "\n".join(shown),
        "Use name/instance, or the GUID or enough of its beginning.",
        {"candidates": " ".join(tenant.guid for tenant in candidates[:_CANDIDATES])},
    )
