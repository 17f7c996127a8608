"""The conversation with a Master: a verified channel, the token, deadlines, and errors as typed exceptions.

The only module that imports gRPC; commands import it when they run, so that help and completion of words stay fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

# Its C core writes to stderr by itself; what is worth saying is said by diagnosis.py.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from google.protobuf.message import Message

from tenantry.cli.moments import now_ms, timestamp_ms
from tenantry.cli.profiles import Profile
from tenantry.cli.troubles import CallRefused, DeadlineExceeded, MasterUnreachable, MasterUntrusted
from tenantry.protocol.failures import (
    EXIT_BUG,
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_LIMIT,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
)
from tenantry.protocol.joining import DEFAULT_API_PORT, join_address, split_address
from tenantry.protocol.names import listener_name
from tenantry.transport.pinning import EndpointUnreachable, Obstacle, examine_endpoint
from tenantry.transport.settings import client_options, tunnel_client_options
from tenantry.transport.statuses import failure_of

# A command needs one or two services of twenty; what the others say is not even read.
if TYPE_CHECKING:
    from tenantry.v1 import master_service_pb2 as master_pb
    from tenantry.v1.alert_service_pb2_grpc import AlertServiceStub
    from tenantry.v1.audit_service_pb2_grpc import AuditServiceStub
    from tenantry.v1.authority_service_pb2_grpc import AuthorityServiceStub
    from tenantry.v1.board_service_pb2_grpc import BoardServiceStub
    from tenantry.v1.delivery_service_pb2_grpc import DeliveryServiceStub
    from tenantry.v1.group_service_pb2_grpc import GroupServiceStub
    from tenantry.v1.licence_service_pb2_grpc import LicenceServiceStub
    from tenantry.v1.openid_service_pb2_grpc import OpenIdServiceStub
    from tenantry.v1.receiver_service_pb2_grpc import ReceiverServiceStub
    from tenantry.v1.role_service_pb2_grpc import RoleServiceStub
    from tenantry.v1.rule_service_pb2_grpc import RuleServiceStub
    from tenantry.v1.session_service_pb2_grpc import SessionServiceStub
    from tenantry.v1.stream_service_pb2_grpc import StreamServiceStub
    from tenantry.v1.tenant_service_pb2_grpc import TenantServiceStub
    from tenantry.v1.token_service_pb2_grpc import TokenServiceStub
    from tenantry.v1.tunnel_service_pb2_grpc import TunnelServiceStub
    from tenantry.v1.user_service_pb2_grpc import UserServiceStub
    from tenantry.v1.window_service_pb2_grpc import WindowServiceStub

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)

EXAMINATION_S: Final = 3.0
_STATUS_EXITS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: EXIT_USAGE,
    grpc.StatusCode.OUT_OF_RANGE: EXIT_USAGE,
    grpc.StatusCode.NOT_FOUND: EXIT_NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: EXIT_CONFLICT,
    grpc.StatusCode.ABORTED: EXIT_CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: EXIT_WRONG_STATE,
    grpc.StatusCode.UNAUTHENTICATED: EXIT_DENIED,
    grpc.StatusCode.PERMISSION_DENIED: EXIT_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: EXIT_LIMIT,
    grpc.StatusCode.UNIMPLEMENTED: EXIT_BUG,
}
_DISTRUST: Final = {Obstacle.UNTRUSTED, Obstacle.WRONG_NAME, Obstacle.PIN_MISMATCH}
_HINTS: Final = {
    Obstacle.NAME_NOT_RESOLVED: "Check the spelling of the host name, and this machine's DNS.",
    Obstacle.CONNECTION_REFUSED: "Check that the Master runs (`tenantry-master run`) and that the port is its api port.",
    Obstacle.NO_ROUTE: "Check this machine's network.",
    Obstacle.TIMED_OUT: "Check the address, and firewalls on the way.",
    Obstacle.NOT_TLS: "Check that the port is the Master's api port (7443 by default).",
    Obstacle.PIN_MISMATCH: "Compare the fingerprint with the one that `tenantry-master init` printed. Somebody may be in between.",
    Obstacle.UNTRUSTED: "Its authority was replaced, or somebody is in between. After a planned change: `tenantry login` again.",
    Obstacle.WRONG_NAME: "Check the trust domain (`tenantry login --trust-domain`) and that the port is the Master's api port.",
    Obstacle.EXPIRED: "Check this machine's clock; if it is right, the Master must renew its certificate.",
    Obstacle.NOT_YET_VALID: "Check this machine's clock.",
}


class Master:
    """An open conversation; a context manager. Times in seconds."""

    def __init__(self, profile: Profile, timeout: float, *, examine: bool = True) -> None:
        """`examine`: whether to take a second look, of up to 3 s, at why a call did not get through."""
        self.host, self.port = split_address(profile.address, DEFAULT_API_PORT)
        self.timeout = timeout
        self._profile = profile
        self._examine = examine
        self._server_name = listener_name("machines" if profile.certificate else "api", profile.trust_domain)
        credentials = _credentials(profile)
        self._channel = grpc.secure_channel(
            join_address(self.host, self.port), credentials, client_options(self._server_name)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    @cached_property
    def tenants(self) -> TenantServiceStub:
        """The register of Tenants."""
        from tenantry.v1.tenant_service_pb2_grpc import TenantServiceStub

        return TenantServiceStub(self._channel)

    @cached_property
    def boards(self) -> BoardServiceStub:
        """The settings of the board."""
        from tenantry.v1.board_service_pb2_grpc import BoardServiceStub

        return BoardServiceStub(self._channel)

    @cached_property
    def streams(self) -> StreamServiceStub:
        """What the Master keeps."""
        from tenantry.v1.stream_service_pb2_grpc import StreamServiceStub

        return StreamServiceStub(self._channel)

    @cached_property
    def roles(self) -> RoleServiceStub:
        """Who may do what where."""
        from tenantry.v1.role_service_pb2_grpc import RoleServiceStub

        return RoleServiceStub(self._channel)

    @cached_property
    def groups(self) -> GroupServiceStub:
        """Groups of users."""
        from tenantry.v1.group_service_pb2_grpc import GroupServiceStub

        return GroupServiceStub(self._channel)

    @cached_property
    def rules(self) -> RuleServiceStub:
        """Its rules."""
        from tenantry.v1.rule_service_pb2_grpc import RuleServiceStub

        return RuleServiceStub(self._channel)

    @cached_property
    def alerts(self) -> AlertServiceStub:
        """Its alerts."""
        from tenantry.v1.alert_service_pb2_grpc import AlertServiceStub

        return AlertServiceStub(self._channel)

    @cached_property
    def windows(self) -> WindowServiceStub:
        """Its maintenance windows."""
        from tenantry.v1.window_service_pb2_grpc import WindowServiceStub

        return WindowServiceStub(self._channel)

    @cached_property
    def receivers(self) -> ReceiverServiceStub:
        """Calls about receivers."""
        from tenantry.v1.receiver_service_pb2_grpc import ReceiverServiceStub

        return ReceiverServiceStub(self._channel)

    @cached_property
    def deliveries(self) -> DeliveryServiceStub:
        """Calls about deliveries."""
        from tenantry.v1.delivery_service_pb2_grpc import DeliveryServiceStub

        return DeliveryServiceStub(self._channel)

    @cached_property
    def audit(self) -> AuditServiceStub:
        """The audit chain."""
        from tenantry.v1.audit_service_pb2_grpc import AuditServiceStub

        return AuditServiceStub(self._channel)

    @property
    def roots(self) -> bytes:
        """The root certificates that this profile trusts, PEM."""
        return self._profile.ca.encode()

    @property
    def trust_domain(self) -> str:
        """The domain of the Master's names."""
        return self._profile.trust_domain

    @cached_property
    def authorities(self) -> AuthorityServiceStub:
        """Its certification authorities."""
        from tenantry.v1.authority_service_pb2_grpc import AuthorityServiceStub

        return AuthorityServiceStub(self._channel)

    @cached_property
    def licences(self) -> LicenceServiceStub:
        """Its licence."""
        from tenantry.v1.licence_service_pb2_grpc import LicenceServiceStub

        return LicenceServiceStub(self._channel)

    @cached_property
    def sessions(self) -> SessionServiceStub:
        """Signing in and out."""
        from tenantry.v1.session_service_pb2_grpc import SessionServiceStub

        return SessionServiceStub(self._channel)

    @cached_property
    def users(self) -> UserServiceStub:
        """Its users."""
        from tenantry.v1.user_service_pb2_grpc import UserServiceStub

        return UserServiceStub(self._channel)

    @cached_property
    def tokens(self) -> TokenServiceStub:
        """Bearer tokens."""
        from tenantry.v1.token_service_pb2_grpc import TokenServiceStub

        return TokenServiceStub(self._channel)

    def signed_in_as(self) -> str:
        """The name of the user who is signed in; needs no right. Raises as `call`."""
        from tenantry.v1 import user_service_pb2 as user_pb

        return self.call(self.users.GetUser, user_pb.GetUserRequest()).user.name

    @cached_property
    def tunnels(self) -> TunnelServiceStub:
        """Tunnels to Tenants."""
        from tenantry.v1.tunnel_service_pb2_grpc import TunnelServiceStub

        return TunnelServiceStub(self._channel)

    @cached_property
    def openid(self) -> OpenIdServiceStub:
        """Signing in through its OpenID provider."""
        from tenantry.v1.openid_service_pb2_grpc import OpenIdServiceStub

        return OpenIdServiceStub(self._channel)

    def describe(self) -> master_pb.GetMasterResponse:
        """What the Master says of itself. Raises as `call`."""
        from tenantry.v1 import master_service_pb2 as master_pb
        from tenantry.v1.master_service_pb2_grpc import MasterServiceStub

        return self.call(MasterServiceStub(self._channel).GetMaster, master_pb.GetMasterRequest())

    @cached_property
    def clock_offset_ms(self) -> int:
        """How far the Master's clock is ahead of this machine's, about. Raises as `call`."""
        from tenantry.v1 import role_service_pb2 as role_pb

        # Everybody who is signed in may ask who that is; GetMaster needs a right that seeing Tenants does not.
        return timestamp_ms(self.call(self.roles.WhoAmI, role_pb.WhoAmIRequest()).server_time) - now_ms()

    def now_ms(self) -> int:
        """The Master's clock: what "3 s ago" refers to. Raises as `call`."""
        return now_ms() + self.clock_offset_ms

    def call(self, method: grpc.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> Answer:
        """One answer within the time limit. Raises Failure, or Trouble where the Master did not answer."""
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self.translate(error) from None

    def begin(self, method: grpc.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> Callable[[], Answer]:
        """The same without waiting yet: what comes back waits for the answer when it is called, and raises as `call`."""
        future = method.future(request, timeout=self.timeout)

        def wait() -> Answer:
            try:
                return future.result()
            except grpc.RpcError as error:
                raise self.translate(error) from None

        return wait

    def follow(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> Iterator[Answer]:
        """Messages until the Master ends the call. Raises as `call`. Closing the iterator ends the call."""
        call = method(request, timeout=timeout)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.translate(error) from None
        finally:
            call.cancel()

    def open_channel(self) -> grpc.aio.Channel:
        """Another channel to the same listener with the same credentials, for an event loop. The caller closes it."""
        return grpc.aio.secure_channel(
            join_address(self.host, self.port), _credentials(self._profile), client_options(self._server_name)
        )

    def open_relay_channel(self, port: int, server_name: str) -> grpc.aio.Channel:
        """A channel to the Master's listener for connections through tunnels, for an event loop. The caller closes it."""
        return grpc.aio.secure_channel(
            join_address(self.host, port), grpc.ssl_channel_credentials(self.roots), tunnel_client_options(server_name)
        )

    def translate(self, error: grpc.RpcError) -> Exception:
        """What ended a call, as a Failure or a Trouble. May take up to 3 s to find out what is in the way."""
        try:
            failure = failure_of(error)
        except ValueError:
            failure = None
        if failure is not None:
            return failure
        # What a call raises is the call itself, which the declared type does not say.
        ended: Any = error
        code, details = ended.code(), ended.details() or ""
        if code in _STATUS_EXITS:
            return CallRefused(
                f"the call was refused: {details or code.name}",
                "The answer has no reason that this version knows; compare the versions of Master and CLI.",
                _STATUS_EXITS[code],
                {"status": code.name},
            )
        try:
            if self._examine:
                examine_endpoint(self.host, self.port, self._server_name, self._profile.ca, EXAMINATION_S)
        except EndpointUnreachable as unreachable:
            return explain(unreachable)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"the Master at {self.host} port {self.port} did not answer within {self.timeout:g} s",
                "It may or may not have done what was asked: look before you repeat. --timeout gives it longer.",
            )
        return MasterUnreachable(
            f"the call to {self.host} port {self.port} broke off: {details or code.name}",
            "The Master accepts connections; try again.",
            {"status": code.name},
        )


def _credentials(profile: Profile) -> grpc.ChannelCredentials:
    if profile.certificate:
        return grpc.ssl_channel_credentials(profile.ca.encode(), profile.key.encode(), profile.certificate.encode())
    encrypted = grpc.ssl_channel_credentials(profile.ca.encode())
    if not profile.token:
        return encrypted
    return grpc.composite_channel_credentials(encrypted, grpc.access_token_call_credentials(profile.token))


def explain(unreachable: EndpointUnreachable) -> MasterUnreachable | MasterUntrusted:
    """The obstacle on the way to a Master, with what to do about it."""
    kind = MasterUntrusted if unreachable.obstacle in _DISTRUST else MasterUnreachable
    return kind(
        f"the Master cannot be reached: {unreachable}",
        _HINTS[unreachable.obstacle],
        {"obstacle": unreachable.obstacle.name, "host": unreachable.host, "port": str(unreachable.port)},
    )
