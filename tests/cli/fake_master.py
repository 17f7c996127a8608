# ruff: noqa: ARG002, N802 - the names and parameters are those of the generated servicers
"""A Master in memory: real gRPC over real TLS with the real contract, and nothing behind it but dictionaries.

It runs in a thread with a loop of its own, because the command line under test blocks the one of the test.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tenantry.protocol.failures import (
    AuthorityInWrongState,
    AuthorityNotFound,
    Failure,
    NotSignedIn,
    TenantChanged,
    TenantNotFound,
)
from tenantry.protocol.joining import KEY_PREFIX, TOKEN_PREFIX, JoinTicket, encode_join_string, make_secret
from tenantry.transport.settings import server_options
from tenantry.transport.statuses import failure_to_status
from tenantry.v1 import authority_service_pb2 as authority_pb
from tenantry.v1 import authority_service_pb2_grpc as authority_grpc
from tenantry.v1 import master_service_pb2 as master_pb
from tenantry.v1 import master_service_pb2_grpc as master_grpc
from tenantry.v1 import role_service_pb2 as role_pb
from tenantry.v1 import role_service_pb2_grpc as role_grpc
from tenantry.v1 import stream_service_pb2 as stream_pb
from tenantry.v1 import stream_service_pb2_grpc as stream_grpc
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb
from tenantry.v1 import tenant_service_pb2_grpc as service_grpc
from tenantry.v1 import tunnel_relay_service_pb2_grpc as relay_grpc
from tenantry.v1 import tunnel_service_pb2_grpc as tunnel_grpc
from tests.cli.certificates import ServerIdentity, make_identity
from tests.cli.fake_streams import Streams
from tests.cli.fake_tenants import Tenants, matches
from tests.cli.fake_tunnels import Relay, TunnelBook, Tunnels
from tests.servers.deadlines import PATIENCE_S
from tests.servers.ports import steady_port

TOKEN = make_secret(TOKEN_PREFIX, bytes(36)).text


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
        self.tunnels = TunnelBook()
        self.gaps: list[stream_pb.Gap] = []
        self.answer: list[stream_pb.QueryResponse] = []
        """The steps with which every query is answered."""
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
        return [tenant for tenant in self.tenants.values() if matches(tenant, wanted)]

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
        service_grpc.add_TenantServiceServicer_to_server(Tenants(self), server)
        stream_grpc.add_StreamServiceServicer_to_server(Streams(self), server)
        tunnel_grpc.add_TunnelServiceServicer_to_server(Tunnels(self), server)
        relay_grpc.add_TunnelRelayServiceServicer_to_server(Relay(self.tunnels), server)
        authority_grpc.add_AuthorityServiceServicer_to_server(_Authorities(self), server)
        master_grpc.add_MasterServiceServicer_to_server(_Master(self), server)
        role_grpc.add_RoleServiceServicer_to_server(_Roles(self), server)  # type: ignore[abstract]
        credentials = grpc.ssl_server_credentials([(self.identity.key, self.identity.chain)])
        self.port = server.add_secure_port(f"127.0.0.1:{self.port or steady_port()}", credentials)
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

        if handler.request_streaming:

            async def converse(requests: Any, context: Any) -> None:
                try:
                    await handler.stream_stream(requests, context)
                except Failure as failure:
                    await context.abort_with_status(failure_to_status(failure))

            # What is asked for is decided by the first message; there is no token.
            return grpc.stream_stream_rpc_method_handler(
                converse, handler.request_deserializer, handler.response_serializer
            )

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


class _Roles(role_grpc.RoleServiceServicer):
    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    async def WhoAmI(self, request: Any, context: Any) -> role_pb.WhoAmIResponse:
        return role_pb.WhoAmIResponse(user="first", server_time=timestamp(time.time() + self._master.clock_ahead_s))


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
