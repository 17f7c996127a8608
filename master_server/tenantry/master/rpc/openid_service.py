"""`OpenIdService`: signing in through an OpenID provider, on the wire."""

from tenantry.master.operations.openid_flows import OpenIdFlows
from tenantry.master.operations.sessions import OpenedSession
from tenantry.master.operations.sign_in_limits import source_of
from tenantry.master.rpc.callers import ACTOR, Context, peer_host
from tenantry.transport.wire_values import to_duration, to_timestamp
from tenantry.v1 import openid_service_pb2 as pb
from tenantry.v1 import openid_service_pb2_grpc, session_service_pb2


class OpenIdServicer(openid_service_pb2_grpc.OpenIdServiceServicer):
    """Wire <-> `operations.openid_flows`."""

    def __init__(self, flows: OpenIdFlows) -> None:
        self._flows = flows

    async def BeginSignIn(self, request: pb.BeginSignInRequest, context: Context) -> pb.BeginSignInResponse:
        begun = await self._flows.begin_code(request.redirect_uri, source_of(peer_host(context)))
        return pb.BeginSignInResponse(
            authorization_url=begun.authorization_url,
            state=begun.state,
            secret=begun.secret,
            expire_time=to_timestamp(begun.expires_ms),
        )

    async def FinishSignIn(self, request: pb.FinishSignInRequest, context: Context) -> pb.FinishSignInResponse:
        source = source_of(peer_host(context))
        opened = await self._flows.finish_code(request.secret, request.state, request.code, ACTOR.get(), source)
        return pb.FinishSignInResponse(session=self._encode(opened))

    async def BeginDeviceSignIn(
        self, request: pb.BeginDeviceSignInRequest, context: Context
    ) -> pb.BeginDeviceSignInResponse:
        begun = await self._flows.begin_device(source_of(peer_host(context)))
        return pb.BeginDeviceSignInResponse(
            user_code=begun.device.user_code,
            verification_uri=begun.device.verification_uri,
            complete_verification_uri=begun.device.complete_uri,
            secret=begun.secret,
            expire_time=to_timestamp(begun.expires_ms),
            interval=to_duration(begun.device.interval_s * 1000),
        )

    async def FinishDeviceSignIn(
        self, request: pb.FinishDeviceSignInRequest, context: Context
    ) -> pb.FinishDeviceSignInResponse:
        source = source_of(peer_host(context))
        opened = await self._flows.finish_device(request.secret, ACTOR.get(), source)
        return pb.FinishDeviceSignInResponse(session=None if opened is None else self._encode(opened))

    def _encode(self, opened: OpenedSession) -> session_service_pb2.SignInResponse:
        return session_service_pb2.SignInResponse(
            token=opened.secret.text,
            token_id=opened.token.id,
            name=opened.user.name,
            expire_time=to_timestamp(opened.token.expires_ms or 0),
            idle_timeout=to_duration(self._flows.terms.idle_ms),
        )
