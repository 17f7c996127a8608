# ruff: noqa: ARG002, N802 - the names and parameters are those of the generated servicers
"""The fake Master's Tenants: the service, and what its filters and orders mean."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from tenantry.protocol.failures import (
    Failure,
    FieldInvalid,
    MasterStopping,
    PageTokenInvalid,
    TenantInWrongState,
    TenantNameTaken,
    TenantNotQuarantined,
)
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb
from tenantry.v1 import tenant_service_pb2_grpc as service_grpc

if TYPE_CHECKING:
    from tests.cli.fake_master import FakeMaster

_MOVES = {
    pb.TENANT_STATE_MAINTENANCE: {pb.TENANT_STATE_ACTIVE},
    pb.TENANT_STATE_ACTIVE: {pb.TENANT_STATE_MAINTENANCE, pb.TENANT_STATE_ALERT},
    pb.TENANT_STATE_ALERT: {pb.TENANT_STATE_ACTIVE, pb.TENANT_STATE_MAINTENANCE},
}


def matches(tenant: pb.Tenant, wanted: service_pb.TenantFilter) -> bool:
    """Whether a Tenant is what a filter asks for."""
    texts = (tenant.tenant_name, tenant.instance_name, tenant.guid)
    return (
        (tenant.state in wanted.states if wanted.states else tenant.state != pb.TENANT_STATE_DELETED)
        and (not wanted.connectivities or tenant.connectivity in wanted.connectivities)
        and set(wanted.tags) <= set(tenant.tags)
        and (not wanted.text or any(wanted.text.lower() in text.lower() for text in texts))
        and wanted.tenant_name in ("", tenant.tenant_name)
        and wanted.instance_name in ("", tenant.instance_name)
        and (not wanted.quarantined or tenant.HasField("quarantine"))
    )


def _ordered(found: Iterable[pb.Tenant], order: int) -> list[pb.Tenant]:
    if order == service_pb.TENANT_ORDER_LAST_HEARTBEAT:
        return sorted(found, key=lambda tenant: tenant.last_heartbeat.ToMilliseconds())
    return sorted(found, key=lambda tenant: (tenant.tenant_name, tenant.instance_name, tenant.guid))


class Tenants(service_grpc.TenantServiceServicer):
    """What the contract says, on a dictionary."""

    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    async def CreateTenant(self, request: service_pb.CreateTenantRequest, context: Any) -> Any:
        wanted = request.tenant
        if known := self._master.created.get(request.request_id):
            return service_pb.CreateTenantResponse(tenant=known, enrolment=self._master.enrolment(known))
        for other in self._master.tenants.values():
            if (other.tenant_name, other.instance_name) == (wanted.tenant_name, wanted.instance_name):
                raise TenantNameTaken(tenant_name=wanted.tenant_name, instance_name=wanted.instance_name)
        if not wanted.tenant_name.isprintable():
            raise FieldInvalid(
                field="tenant_name", problem="holds the character U+001B", expected="printable characters"
            )
        tenant = pb.Tenant()
        tenant.CopyFrom(wanted)
        tenant.guid, tenant.etag = str(uuid.uuid4()), "1"
        tenant.state, tenant.connectivity = pb.TENANT_STATE_UNREGISTERED, pb.CONNECTIVITY_NEVER_CONNECTED
        self._master.tenants[tenant.guid] = self._master.created[request.request_id] = tenant
        return service_pb.CreateTenantResponse(tenant=tenant, enrolment=self._master.enrolment(tenant))

    async def GetTenant(self, request: service_pb.GetTenantRequest, context: Any) -> Any:
        return service_pb.GetTenantResponse(tenant=self._master.find(request.guid))

    async def ListTenants(self, request: service_pb.ListTenantsRequest, context: Any) -> Any:
        found = _ordered(self._master.matching(request.filter), request.order)
        if request.page_token and not request.page_token.isdecimal():
            raise PageTokenInvalid
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 100, self._master.largest_page)
        token = str(end) if end < len(found) else ""
        return service_pb.ListTenantsResponse(tenants=found[start:end], next_page_token=token, total_size=len(found))

    async def UpdateTenant(self, request: service_pb.UpdateTenantRequest, context: Any) -> Any:
        tenant = self._master.find(request.tenant.guid, request.tenant.etag)
        # A mask replaces repeated fields and maps, where MergeMessage would append.
        for path in request.update_mask.paths:
            source: Any = request.tenant
            target: Any = tenant
            *parents, name = path.split(".")
            for parent in parents:
                source, target = getattr(source, parent), getattr(target, parent)
            target.ClearField(name)
            copy = type(target)()
            copy.CopyFrom(source)
            for field in copy.DESCRIPTOR.fields:
                if field.name != name:
                    copy.ClearField(field.name)
            target.MergeFrom(copy)
        return service_pb.UpdateTenantResponse(tenant=self._master.touch(tenant))

    async def _move(self, request: Any, wanted: int) -> pb.Tenant:
        tenant = self._master.find(request.guid, request.etag)
        self._check_move(tenant, wanted)
        tenant.state = wanted  # type: ignore[assignment]
        await self._master.notify()
        return self._master.touch(tenant)

    def _check_move(self, tenant: pb.Tenant, wanted: int) -> None:
        allowed = _MOVES.get(tenant.state, set())
        if wanted not in allowed:
            name = pb.TenantState.Name
            raise TenantInWrongState(
                tenant=tenant.guid,
                state=name(tenant.state).removeprefix("TENANT_STATE_"),
                wanted=name(wanted).removeprefix("TENANT_STATE_"),  # type: ignore[arg-type]
                allowed=", ".join(sorted(name(one).removeprefix("TENANT_STATE_") for one in allowed)) or "none",
            )

    async def MoveTenants(self, request: service_pb.MoveTenantsRequest, context: Any) -> AsyncIterator[Any]:
        kinds = service_pb.MoveOutcome
        outcomes = []
        for target in request.tenants:
            outcome = service_pb.MoveOutcome(guid=target.guid, result=kinds.RESULT_MOVED)
            tenant = self._master.tenants.get(target.guid)
            if tenant is not None:
                outcome.tenant_name, outcome.instance_name = tenant.tenant_name, tenant.instance_name
                outcome.before = outcome.state = tenant.state
                outcome.connected = tenant.connectivity == pb.CONNECTIVITY_CONNECTED
            if tenant is not None and tenant.state == request.state:
                outcome.result = kinds.RESULT_UNCHANGED
            else:
                try:
                    self._check_move(self._master.find(target.guid, target.etag), request.state)
                except Failure as failure:
                    outcome.result = kinds.RESULT_REFUSED
                    outcome.refusal.reason, outcome.refusal.message = failure.reason, failure.describe()
                    outcome.refusal.metadata.update(failure.metadata)
            if outcome.result == kinds.RESULT_MOVED:
                outcome.state = request.state
                if not request.validate_only:
                    self._master.touch(self._master.tenants[target.guid]).state = request.state
            outcomes.append(outcome)
        await self._master.notify()
        for start in range(0, len(outcomes), 7):
            yield service_pb.MoveTenantsResponse(outcomes=outcomes[start : start + 7])
        if not request.validate_only:
            told = [one.guid for one in outcomes if one.connected and one.guid not in self._master.disobedient]
            yield service_pb.MoveTenantsResponse(obeying_guids=told)

    async def ActivateTenant(self, request: service_pb.ActivateTenantRequest, context: Any) -> Any:
        return service_pb.ActivateTenantResponse(tenant=await self._move(request, pb.TENANT_STATE_ACTIVE))

    async def MaintainTenant(self, request: service_pb.MaintainTenantRequest, context: Any) -> Any:
        return service_pb.MaintainTenantResponse(tenant=await self._move(request, pb.TENANT_STATE_MAINTENANCE))

    async def AlertTenant(self, request: service_pb.AlertTenantRequest, context: Any) -> Any:
        return service_pb.AlertTenantResponse(tenant=await self._move(request, pb.TENANT_STATE_ALERT))

    async def RekeyTenant(self, request: service_pb.RekeyTenantRequest, context: Any) -> Any:
        tenant = self._master.touch(self._master.find(request.guid, request.etag))
        return service_pb.RekeyTenantResponse(tenant=tenant, enrolment=self._master.enrolment(tenant))

    async def ResolveQuarantine(self, request: service_pb.ResolveQuarantineRequest, context: Any) -> Any:
        tenant = self._master.find(request.guid)
        if not tenant.HasField("quarantine"):
            raise TenantNotQuarantined(tenant=tenant.guid)
        tenant.ClearField("quarantine")
        return service_pb.ResolveQuarantineResponse(tenant=tenant)

    async def DeleteTenant(self, request: service_pb.DeleteTenantRequest, context: Any) -> Any:
        tenant = self._master.touch(self._master.find(request.guid, request.etag))
        tenant.state = pb.TENANT_STATE_DELETED
        await self._master.notify()
        return service_pb.DeleteTenantResponse(tenant=tenant)

    async def WatchTenants(self, request: service_pb.WatchTenantsRequest, context: Any) -> AsyncIterator[Any]:
        sent: dict[str, bytes] = {}
        synchronised = False
        while not self._master.stopping.is_set():
            present = {tenant.guid: tenant for tenant in self._master.matching(request.filter)}
            for guid, tenant in present.items():
                if sent.get(guid) != (now := tenant.SerializeToString()):
                    sent[guid] = now
                    yield service_pb.WatchTenantsResponse(tenant=tenant)
            for guid in sent.keys() - present.keys():
                del sent[guid]
                yield service_pb.WatchTenantsResponse(gone=guid)
            if not synchronised:
                yield service_pb.WatchTenantsResponse(synchronised=True)
                synchronised = True
            await self._master.changed(request.interval.ToMilliseconds() / 1000)
        raise MasterStopping
