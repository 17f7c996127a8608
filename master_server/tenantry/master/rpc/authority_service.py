"""`AuthorityService`: the replacement of the authority on the wire."""

from tenantry.master.domain.authorities import AuthorityState
from tenantry.master.operations.authorities import AuthorityReport, TrustKeeper
from tenantry.master.rpc.callers import ACTOR, Context
from tenantry.transport.wire_values import WireEnum, to_timestamp
from tenantry.v1 import authority_service_pb2 as pb
from tenantry.v1 import authority_service_pb2_grpc

AUTHORITY_STATES = WireEnum(AuthorityState, pb.AuthorityState.Value, "AUTHORITY_STATE")


class AuthorityServicer(authority_service_pb2_grpc.AuthorityServiceServicer):
    """Wire <-> `operations.authorities`."""

    def __init__(self, keeper: TrustKeeper) -> None:
        self._keeper = keeper

    async def ListAuthorities(self, request: pb.ListAuthoritiesRequest, context: Context) -> pb.ListAuthoritiesResponse:
        return pb.ListAuthoritiesResponse(authorities=[_encode(report) for report in await self._keeper.report()])

    async def PrepareAuthority(
        self, request: pb.PrepareAuthorityRequest, context: Context
    ) -> pb.PrepareAuthorityResponse:
        return pb.PrepareAuthorityResponse(authority=_encode(await self._keeper.prepare(ACTOR.get())))

    async def ActivateAuthority(
        self, request: pb.ActivateAuthorityRequest, context: Context
    ) -> pb.ActivateAuthorityResponse:
        report = await self._keeper.activate(ACTOR.get(), request.id, force=request.force)
        return pb.ActivateAuthorityResponse(authority=_encode(report))

    async def RetireAuthority(self, request: pb.RetireAuthorityRequest, context: Context) -> pb.RetireAuthorityResponse:
        report = await self._keeper.retire(ACTOR.get(), request.id, force=request.force)
        return pb.RetireAuthorityResponse(authority=_encode(report))


def _encode(report: AuthorityReport) -> pb.Authority:
    stored = report.stored
    return pb.Authority(
        id=stored.id,
        state=AUTHORITY_STATES.number(stored.state),
        fingerprint=stored.fingerprint,
        create_time=to_timestamp(stored.created_ms),
        root_not_after=to_timestamp(stored.root_not_after_ms),
        intermediate_not_after=to_timestamp(stored.intermediate_not_after_ms),
        tenants=report.tenants,
        unconfirmed_tenants=report.unconfirmed_tenants,
    )
