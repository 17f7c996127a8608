"""What operators do through the API, in one line each."""

from typing import Any

import grpc.aio

from tenantry.v1 import (
    alert_service_pb2_grpc,
    authority_service_pb2_grpc,
    board_service_pb2_grpc,
    delivery_service_pb2_grpc,
    enrolment_service_pb2_grpc,
    group_service_pb2_grpc,
    licence_service_pb2_grpc,
    master_service_pb2_grpc,
    receiver_service_pb2_grpc,
    role_service_pb2_grpc,
    rule_service_pb2_grpc,
    session_service_pb2_grpc,
    stream_service_pb2,
    stream_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
    token_service_pb2_grpc,
    tunnel_service_pb2_grpc,
    user_service_pb2_grpc,
    window_service_pb2_grpc,
)
from tests.servers.master import MasterProcess

STUBS: dict[str, Any] = {
    "AlertService": alert_service_pb2_grpc.AlertServiceStub,
    "WindowService": window_service_pb2_grpc.WindowServiceStub,
    "EnrolmentService": enrolment_service_pb2_grpc.EnrolmentServiceStub,
    "BoardService": board_service_pb2_grpc.BoardServiceStub,
    "TenantService": tenant_service_pb2_grpc.TenantServiceStub,
    "StreamService": stream_service_pb2_grpc.StreamServiceStub,
    "AuthorityService": authority_service_pb2_grpc.AuthorityServiceStub,
    "LicenceService": licence_service_pb2_grpc.LicenceServiceStub,
    "GroupService": group_service_pb2_grpc.GroupServiceStub,
    "RoleService": role_service_pb2_grpc.RoleServiceStub,
    "ReceiverService": receiver_service_pb2_grpc.ReceiverServiceStub,
    "DeliveryService": delivery_service_pb2_grpc.DeliveryServiceStub,
    "RuleService": rule_service_pb2_grpc.RuleServiceStub,
    "SessionService": session_service_pb2_grpc.SessionServiceStub,
    "TunnelService": tunnel_service_pb2_grpc.TunnelServiceStub,
    "TokenService": token_service_pb2_grpc.TokenServiceStub,
    "UserService": user_service_pb2_grpc.UserServiceStub,
    "MasterService": master_service_pb2_grpc.MasterServiceStub,
}
CALL_S = 60.0


async def call(master: MasterProcess, service: str, method: str, request: Any, *, signed_in: bool = True) -> Any:
    """One unary call, as an administrator unless told otherwise."""
    async with master.api_channel() as channel:
        return await call_on(channel, master, service, method, request, signed_in=signed_in)


async def call_on(
    channel: grpc.aio.Channel, master: MasterProcess, service: str, method: str, request: Any, *, signed_in: bool = True
) -> Any:
    """The same on a channel that is open."""
    metadata = master.metadata if signed_in else ()
    return await getattr(STUBS[service](channel), method)(request, metadata=metadata, timeout=CALL_S)


async def tenant_of(master: MasterProcess, guid: str) -> tenant_pb2.Tenant:
    """A Tenant as it is now."""
    answer = await call(master, "TenantService", "GetTenant", tenant_service_pb2.GetTenantRequest(guid=guid))
    found: tenant_pb2.Tenant = answer.tenant
    return found


async def read_records(master: MasterProcess, stream: str, guid: str = "") -> list[stream_service_pb2.Record]:
    """All records of a stream, oldest first, of one Tenant or of all."""
    wanted = stream_service_pb2.RecordFilter(stream=stream, tenant_guids=[guid] if guid else [])
    records: list[stream_service_pb2.Record] = []
    token = ""
    async with master.api_channel() as channel:
        while True:
            request = stream_service_pb2.ReadRecordsRequest(
                filter=wanted, page_size=10_000, page_token=token, ascending=True
            )
            page = await call_on(channel, master, "StreamService", "ReadRecords", request)
            records += page.records
            token = page.next_page_token
            if not token:
                return records


async def read_gaps(master: MasterProcess, guid: str) -> list[stream_service_pb2.Gap]:
    """The gap ledger of a Tenant, newest first."""
    request = stream_service_pb2.ListGapsRequest(tenant_guids=[guid])
    return list((await call(master, "StreamService", "ListGaps", request)).gaps)


async def rekey(master: MasterProcess, guid: str, *, revoke: bool = False) -> str:
    """A new enrolment key."""
    request = tenant_service_pb2.RekeyTenantRequest(guid=guid, revoke_certificates=revoke)
    return str((await call(master, "TenantService", "RekeyTenant", request)).enrolment.key)


async def delete(master: MasterProcess, guid: str) -> None:
    """Delete a Tenant."""
    await call(master, "TenantService", "DeleteTenant", tenant_service_pb2.DeleteTenantRequest(guid=guid))
