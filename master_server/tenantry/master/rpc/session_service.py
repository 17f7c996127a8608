"""`SessionService`: signing in with a password, and out."""

import math
import secrets
from typing import Any

from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.sessions import close_session
from tenantry.master.operations.signing_in import SignInDesk
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context, peer_address, peer_host
from tenantry.transport.wire_values import to_duration, to_timestamp
from tenantry.v1 import session_service_pb2 as pb
from tenantry.v1 import session_service_pb2_grpc


class SessionServicer(session_service_pb2_grpc.SessionServiceServicer):
    """Wire <-> `operations.signing_in`."""

    def __init__(self, desk: SignInDesk, committer: Committer, clocks: Clocks) -> None:
        self._desk = desk
        self._committer = committer
        self._clocks = clocks

    async def SignIn(self, request: pb.SignInRequest, context: Context) -> pb.SignInResponse:
        # None where the caller has no deadline, which the declared type does not say.
        left_s: Any = context.time_remaining()
        passed = await self._desk.sign_in(
            request.name,
            request.password,
            request.code,
            peer_address(context),
            peer_host(context),
            ACTOR.get().request_id or secrets.token_hex(8),
            proof=request.proof,
            patience_s=math.inf if left_s is None else left_s,
        )
        token = passed.session.token
        return pb.SignInResponse(
            token=passed.session.secret.text,
            token_id=token.id,
            name=passed.session.user.name,
            expire_time=to_timestamp(token.expires_ms or 0),
            idle_timeout=to_duration(self._desk.terms.idle_ms),
            recovery_codes_left=passed.recovery_codes_left,
            second_factor_missing=passed.second_factor_missing,
            proof=passed.proof,
        )

    async def SignOut(self, request: pb.SignOutRequest, context: Context) -> pb.SignOutResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        await self._committer.run(lambda transaction: close_session(transaction, actor, viewer.token_id, now_ms))
        return pb.SignOutResponse()
