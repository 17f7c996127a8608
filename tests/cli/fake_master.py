# ruff: noqa: ARG002, N802 - the names and parameters are those of the generated servicers
"""A Master in memory: real gRPC over real TLS with the real contract, and nothing behind it but dictionaries.

It runs in a thread with a loop of its own, because the command line under test blocks the one of the test.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tenantry.protocol.failures import (
    AuthorityInWrongState,
    AuthorityNotFound,
    Failure,
    FieldInvalid,
    MasterStopping,
    NotSignedIn,
    PageTokenInvalid,
    StreamNotFound,
    TenantChanged,
    TenantInWrongState,
    TenantNameTaken,
    TenantNotFound,
    TenantNotQuarantined,
)
from tenantry.protocol.joining import KEY_PREFIX, TOKEN_PREFIX, JoinTicket, encode_join_string, make_secret
from tenantry.transport.settings import server_options
from tenantry.transport.statuses import failure_to_status
from tenantry.v1 import authority_service_pb2 as authority_pb
from tenantry.v1 import authority_service_pb2_grpc as authority_grpc
from tenantry.v1 import master_service_pb2 as master_pb
from tenantry.v1 import master_service_pb2_grpc as master_grpc
from tenantry.v1 import stream_service_pb2 as stream_pb
from tenantry.v1 import stream_service_pb2_grpc as stream_grpc
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb
from tenantry.v1 import tenant_service_pb2_grpc as service_grpc
from tests.cli.certificates import ServerIdentity, make_identity
from tests.servers.deadlines import PATIENCE_S

TOKEN = make_secret(TOKEN_PREFIX, bytes(36)).text
_MOVES = {
    pb.TENANT_STATE_MAINTENANCE: {pb.TENANT_STATE_ACTIVE},
    pb.TENANT_STATE_ACTIVE: {pb.TENANT_STATE_MAINTENANCE, pb.TENANT_STATE_ALERT},
    pb.TENANT_STATE_ALERT: {pb.TENANT_STATE_ACTIVE, pb.TENANT_STATE_MAINTENANCE},
}


def timestamp(seconds: float) -> Timestamp:
    """A moment, from Unix seconds."""
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


class FakeMaster:
    """A context manager around a running server. Tests may read and change its dictionaries between calls."""

    def __init__(self, identity: ServerIdentity | None = None, port: int = 0) -> None:
        self.identity = identity or make_identity()
        self.port = port
        self.tenants: dict[str, pb.Tenant] = {}
        self.records: dict[str, list[stream_pb.Record]] = {"metricsMaster": [], "tenantStatusHistory": []}
        self.gaps: list[stream_pb.Gap] = []
        self.authorities = [authority_pb.Authority(id="a1", state=authority_pb.AUTHORITY_STATE_ISSUING, tenants=2)]
        self.requests: list[Any] = []
        self.asked = threading.Event()
        self.failing: dict[str, Failure | grpc.StatusCode] = {}
        self.silent: set[str] = set()
        self.losing: set[str] = set()
        self.disobedient: set[str] = set()
        self.created: dict[str, pb.Tenant] = {}
        self.clock_ahead_s = 0.0
        self.largest_page = 1_000
        self.stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-master", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._changed: asyncio.Condition | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all calls and close the port."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)

    def add(self, tenant_name: str = "acme", instance_name: str = "main", **fields: Any) -> pb.Tenant:
        """Put a Tenant there, as if it had been registered and had connected."""
        tenant = pb.Tenant(
            guid=fields.pop("guid", None) or str(uuid.uuid4()),
            tenant_name=tenant_name,
            instance_name=instance_name,
            state=fields.pop("state", pb.TENANT_STATE_ACTIVE),
            connectivity=fields.pop("connectivity", pb.CONNECTIVITY_CONNECTED),
            etag=fields.pop("etag", "1"),
            **fields,
        )
        self.tenants[tenant.guid] = tenant
        self.announce()
        return tenant

    def announce(self) -> None:
        """Wake the followers: something changed."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self.notify(), self._loop).result(PATIENCE_S)

    async def notify(self) -> None:
        """The same, from its own loop."""
        assert self._changed is not None
        async with self._changed:
            self._changed.notify_all()

    async def changed(self, timeout: float) -> None:
        """Wait until something changes, at most `timeout` seconds."""
        assert self._changed is not None
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                return

    def find(self, guid: str, etag: str = "") -> pb.Tenant:
        """A Tenant by GUID, with the etag that is asked for."""
        tenant = self.tenants.get(guid)
        if tenant is None:
            raise TenantNotFound(tenant=guid)
        if etag and etag != tenant.etag:
            raise TenantChanged(tenant=guid, etag=tenant.etag)
        return tenant

    def touch(self, tenant: pb.Tenant) -> pb.Tenant:
        """A change that an operator made: a new etag."""
        tenant.etag = str(int(tenant.etag) + 1)
        return tenant

    def matching(self, wanted: service_pb.TenantFilter) -> list[pb.Tenant]:
        """The Tenants of a filter."""
        return [tenant for tenant in self.tenants.values() if _matches(tenant, wanted)]

    def enrolment(self, tenant: pb.Tenant) -> service_pb.Enrolment:
        """A fresh key for a Tenant."""
        key = make_secret(KEY_PREFIX, uuid.uuid4().bytes * 2 + bytes(4)).text
        ticket = JoinTicket(tenant.guid, key, "127.0.0.1", self.port, self.identity.fingerprint, "tenantry.internal")
        return service_pb.Enrolment(
            join_string=encode_join_string(ticket),
            key=key,
            expire_time=timestamp(time.time() + 1_800),
            master_address=self.address,
            ca_fingerprint=self.identity.fingerprint,
        )

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._changed = asyncio.Event(), asyncio.Condition()
        server = grpc.aio.server(
            interceptors=[_Gate(self)],
            options=server_options(file_descriptors=1024, max_streams_per_connection=100),
        )
        service_grpc.add_TenantServiceServicer_to_server(_Tenants(self), server)
        stream_grpc.add_StreamServiceServicer_to_server(_Streams(self), server)
        authority_grpc.add_AuthorityServiceServicer_to_server(_Authorities(self), server)
        master_grpc.add_MasterServiceServicer_to_server(_Master(self), server)
        credentials = grpc.ssl_server_credentials([(self.identity.key, self.identity.chain)])
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await server.start()
        self._ready.set()
        await self._stop.wait()
        self.stopping.set()
        await self.notify()
        await server.stop(0.3)


class _Gate(grpc.aio.ServerInterceptor):
    """The token, scripted trouble, and failures as statuses."""

    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = await continuation(details)
        if handler is None:
            return None
        method = details.method.rpartition("/")[2]
        sent = dict(details.invocation_metadata or ())

        if handler.response_streaming:

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                try:
                    await self._check(method, sent, request, context)
                    async for message in handler.unary_stream(request, context):
                        yield message
                except Failure as failure:
                    await context.abort_with_status(failure_to_status(failure))

            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )

        async def unary(request: Any, context: Any) -> Any:
            try:
                await self._check(method, sent, request, context)
                answer = await handler.unary_unary(request, context)
                if method in self._master.losing:
                    self._master.losing.discard(method)
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
                return answer
            except Failure as failure:
                await context.abort_with_status(failure_to_status(failure))

        return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)

    async def _check(self, method: str, sent: dict[str, Any], request: Any, context: Any) -> None:
        self._master.requests.append(request)
        self._master.asked.set()
        if sent.get("authorization") != f"Bearer {TOKEN}":
            raise NotSignedIn
        if method in self._master.silent:
            await asyncio.sleep(3_600)
        trouble = self._master.failing.get(method)
        if isinstance(trouble, Failure):
            raise trouble
        if trouble is not None:
            await context.abort(trouble, "scripted \x1b[31mtrouble")


class _Master(master_grpc.MasterServiceServicer):
    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    async def GetMaster(self, request: Any, context: Any) -> master_pb.GetMasterResponse:
        now = time.time() + self._master.clock_ahead_s
        counted = Counter((tenant.state, tenant.connectivity) for tenant in self._master.tenants.values())
        return master_pb.GetMasterResponse(
            version="0.1.0",
            instance_id="6a1d2f6e-0000-4000-8000-000000000000",
            server_time=timestamp(now),
            start_time=timestamp(now - 7_300),
            trust_domain="tenantry.internal",
            ca_fingerprint=self._master.identity.fingerprint,
            store="sqlite",
            caller="first",
            stale_after=Duration(seconds=15),
            lost_after=Duration(seconds=60),
            tenant_counts=[
                master_pb.TenantCount(state=state, connectivity=connectivity, count=count)
                for (state, connectivity), count in counted.items()
            ],
        )


class _Tenants(service_grpc.TenantServiceServicer):
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


class _Streams(stream_grpc.StreamServiceServicer):
    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    def _records(self, wanted: stream_pb.RecordFilter) -> list[stream_pb.Record]:
        if wanted.stream not in self._master.records:
            raise StreamNotFound(stream=wanted.stream)
        return [record for record in self._master.records[wanted.stream] if _record_matches(record, wanted)]

    async def ListStreams(self, request: Any, context: Any) -> Any:
        return stream_pb.ListStreamsResponse(
            streams=[
                stream_pb.Stream(name=name, description=f"what is in {name}", records=len(records))
                for name, records in sorted(self._master.records.items())
            ]
        )

    async def ReadRecords(self, request: stream_pb.ReadRecordsRequest, context: Any) -> Any:
        found = self._records(request.filter)
        if not request.ascending:
            found.reverse()
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 100, self._master.largest_page)
        token = str(end) if end < len(found) else ""
        return stream_pb.ReadRecordsResponse(records=found[start:end], next_page_token=token)

    async def TailRecords(self, request: stream_pb.TailRecordsRequest, context: Any) -> AsyncIterator[Any]:
        found = self._records(request.filter)
        position = len(found) - request.backlog
        if request.after_cursor:
            position = [record.cursor for record in found].index(request.after_cursor) + 1
        first = True
        while not self._master.stopping.is_set():
            fresh = self._records(request.filter)[position:]
            position += len(fresh)
            if fresh or first:
                yield stream_pb.TailRecordsResponse(records=fresh, cursor=fresh[-1].cursor if fresh else "")
            first = False
            await self._master.changed(0.2)
        raise MasterStopping

    async def ListGaps(self, request: stream_pb.ListGapsRequest, context: Any) -> Any:
        wanted = set(request.tenant_guids)
        return stream_pb.ListGapsResponse(
            gaps=[gap for gap in self._master.gaps if not wanted or gap.tenant_guid in wanted]
        )


class _Authorities(authority_grpc.AuthorityServiceServicer):
    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    def _find(self, identifier: str) -> authority_pb.Authority:
        for authority in self._master.authorities:
            if authority.id == identifier:
                return authority
        raise AuthorityNotFound(authority=identifier)

    async def ListAuthorities(self, request: Any, context: Any) -> Any:
        return authority_pb.ListAuthoritiesResponse(authorities=self._master.authorities)

    async def PrepareAuthority(self, request: Any, context: Any) -> Any:
        made = authority_pb.Authority(id="a2", state=authority_pb.AUTHORITY_STATE_PREPARED, fingerprint="ab" * 32)
        self._master.authorities.insert(0, made)
        return authority_pb.PrepareAuthorityResponse(authority=made)

    async def ActivateAuthority(self, request: authority_pb.ActivateAuthorityRequest, context: Any) -> Any:
        authority = self._find(request.id)
        if authority.state != authority_pb.AUTHORITY_STATE_PREPARED:
            raise AuthorityInWrongState(authority=authority.id, state="issuing", wanted="issuing", allowed="retiring")
        authority.state = authority_pb.AUTHORITY_STATE_ISSUING
        return authority_pb.ActivateAuthorityResponse(authority=authority)

    async def RetireAuthority(self, request: authority_pb.RetireAuthorityRequest, context: Any) -> Any:
        authority = self._find(request.id)
        authority.state = authority_pb.AUTHORITY_STATE_RETIRED
        return authority_pb.RetireAuthorityResponse(authority=authority)


def _matches(tenant: pb.Tenant, wanted: service_pb.TenantFilter) -> bool:
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


def _record_matches(record: stream_pb.Record, wanted: stream_pb.RecordFilter) -> bool:
    at = record.timestamp.ToMilliseconds()
    return (
        (not wanted.tenant_guids or record.tenant_guid in wanted.tenant_guids)
        and (not wanted.metrics or record.fields["metric"] in wanted.metrics)
        and (not wanted.HasField("start_time") or at >= wanted.start_time.ToMilliseconds())
        and (not wanted.HasField("end_time") or at < wanted.end_time.ToMilliseconds())
    )


def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
