"""The Master's listeners: gRPC servers whose certificates can be exchanged while they run."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import grpc
import grpc.aio
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from tenantry.master.config import split_listen
from tenantry.master.http2.server import Server
from tenantry.process.memory import keep_large_blocks
from tenantry.transport.settings import server_options, tunnel_server_options, with_lasting_calls, without_pings

# A call that is over counts until its objects are collected: busy clients must not be refused for what they have finished.
API_STREAMS = 1_000
# An end has one connection for all that goes through its tunnels.
TUNNEL_STREAMS = 2_000
# All browsers come over one connection.
CONSOLE_STREAMS = 10_000

HEALTH = "grpc.health.v1.Health"
API_SERVICES = (
    "tenantry.v1.EnrolmentService",
    "tenantry.v1.TenantService",
    "tenantry.v1.StreamService",
    "tenantry.v1.RuleService",
    "tenantry.v1.AlertService",
    "tenantry.v1.WindowService",
    "tenantry.v1.ReceiverService",
    "tenantry.v1.DeliveryService",
    "tenantry.v1.BoardService",
    "tenantry.v1.AuthorityService",
    "tenantry.v1.MasterService",
    "tenantry.v1.SessionService",
    "tenantry.v1.OpenIdService",
    "tenantry.v1.UserService",
    "tenantry.v1.TokenService",
    "tenantry.v1.RoleService",
    "tenantry.v1.GroupService",
    "tenantry.v1.LicenceService",
    "tenantry.v1.AuditService",
    "tenantry.v1.TunnelService",
)
LINK_SERVICES = ("tenantry.v1.LinkService",)


class ListenFailed(Exception):
    """A listener cannot have its address."""

    def __init__(self, listener: str, address: str) -> None:
        super().__init__(
            f"the {listener} listener cannot listen on {address}: the address is in use, or not this machine's"
        )
        self.listener = listener
        self.address = address


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a listener shows, and whom it trusts. PEM."""

    key: bytes
    chain: bytes
    client_roots: bytes | None


class LiveCredentials:
    """TLS credentials of a listener that take a new identity at the next handshake."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._mutual = identity.client_roots is not None
        self._present = _configuration(identity)
        self._shown: grpc.ServerCertificateConfiguration | None = self._present
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._present,
            self._fetch,  # type: ignore[arg-type]  # None is documented, and means: no change
            self._mutual,
        )

    def replace(self, identity: ServerIdentity) -> None:
        """Show and trust this from the next handshake on."""
        self._present = _configuration(identity)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake; None means: no change."""
        if self._present is self._shown:
            return None
        self._shown = self._present
        return self._present


def _configuration(identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.chain)], root_certificates=identity.client_roots
    )


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    streams_per_connection: int,
    *,
    channelz: bool,
    own: bool = False,
    lasting: bool = False,
) -> grpc.aio.Server:
    """A server with our settings; ``channelz``: its connections can be looked at; ``own``: they come from this process alone;
    ``lasting``: its calls may last longer than a connection should.
    """
    file_descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    options = server_options(
        file_descriptors=file_descriptors, max_streams_per_connection=streams_per_connection, channelz=channelz
    )
    if lasting:
        options = with_lasting_calls(options)
    return grpc.aio.server(interceptors=list(interceptors), options=without_pings(options) if own else options)


def make_tunnel_server(interceptors: Sequence[grpc.aio.ServerInterceptor]) -> grpc.aio.Server:
    """A server for the connections of tunnels."""
    keep_large_blocks()
    file_descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    options = tunnel_server_options(file_descriptors=file_descriptors, max_streams_per_connection=TUNNEL_STREAMS)
    return grpc.aio.server(interceptors=list(interceptors), options=options)


async def add_health(server: grpc.aio.Server | Server, services: Sequence[str]) -> health.HealthServicer:
    """The standard health service; the empty name stands for the listener as a whole."""
    servicer = health.HealthServicer()
    for service in ("", *services):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, cast("grpc.aio.Server", server))
    return servicer


def add_descriptions(server: grpc.aio.Server, *, with_reflection: bool, with_channelz: bool) -> None:
    """Reflection and channelz, where they are wanted."""
    if with_reflection:
        reflection.enable_server_reflection((*API_SERVICES, HEALTH, reflection.SERVICE_NAME), server)
    if with_channelz:
        channelz.add_channelz_servicer(server)


def bind_links(server: Server, address: str) -> int:
    """Listen for daemons; the port. Raises ListenFailed."""
    try:
        return server.bind(*split_listen(address))
    except OSError:
        raise ListenFailed("link", address) from None


def bind(server: grpc.aio.Server, listener: str, address: str, credentials: LiveCredentials) -> int:
    """Listen; the port. Raises ListenFailed."""
    try:
        port = server.add_secure_port(address, credentials.credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ListenFailed(listener, address)
    return int(port)
