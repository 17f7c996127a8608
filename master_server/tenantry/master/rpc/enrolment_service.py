"""`EnrolmentService`: a key becomes a certificate."""

from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations import enrolling
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.throttling import AttemptLimit
from tenantry.master.pki.issuing import issue_tenant_certificate
from tenantry.master.rpc.callers import Context, peer_address, peer_host
from tenantry.protocol.failures import EnrolmentRefused, Failure, FieldInvalid
from tenantry.protocol.names import check_guid
from tenantry.transport.link_messages import to_timestamp
from tenantry.v1 import enrolment_service_pb2 as pb
from tenantry.v1 import enrolment_service_pb2_grpc


class EnrolmentServicer(enrolment_service_pb2_grpc.EnrolmentServiceServicer):
    """Wire <-> `operations.enrolling`, with a limit on failed attempts."""

    def __init__(
        self,
        committer: Committer,
        keeper: TrustKeeper,
        attempts: AttemptLimit,
        clocks: Clocks,
        metrics: MasterMetrics,
        *,
        trust_domain: str,
        link_addresses: tuple[str, ...],
        certificate_lifetime_ms: int,
    ) -> None:
        self._committer = committer
        self._keeper = keeper
        self._attempts = attempts
        self._clocks = clocks
        self._metrics = metrics
        self._trust_domain = trust_domain
        self._link_addresses = link_addresses
        self._lifetime_ms = certificate_lifetime_ms

    async def Enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolResponse:
        host, actor = peer_host(context), Actor("tenant", request.guid[:36], peer_address(context))
        self._attempts.check(host, self._clocks.steady_ms())
        try:
            chain = await self._enrol(request, actor)
        except Failure as failure:
            self._attempts.failed(host, self._clocks.steady_ms())
            self._metrics.enrolment_ended(issued=False)
            if isinstance(failure, EnrolmentRefused):
                now_ms = self._clocks.wall_ms()
                await self._committer.run(
                    lambda transaction: enrolling.record_refused_enrolment(transaction, actor, request.key, now_ms)
                )
            raise
        self._metrics.enrolment_ended(issued=True)
        return pb.EnrolResponse(
            certificate_chain=chain,
            trust_bundle=self._keeper.trust.bundle.pem.decode("ascii"),
            trust_domain=self._trust_domain,
            link_addresses=self._link_addresses,
            server_time=to_timestamp(self._clocks.wall_ms()),
        )

    async def GetServerTime(self, request: pb.GetServerTimeRequest, context: Context) -> pb.GetServerTimeResponse:
        return pb.GetServerTimeResponse(server_time=to_timestamp(self._clocks.wall_ms()))

    async def _enrol(self, request: pb.EnrolRequest, actor: Actor) -> str:
        try:
            guid = check_guid(request.guid)
        except FieldInvalid:
            raise EnrolmentRefused from None
        now_ms = self._clocks.wall_ms()
        issued = issue_tenant_certificate(
            self._keeper.trust.issuing, request.certificate_request, guid, self._trust_domain, now_ms, self._lifetime_ms
        )
        return await self._committer.run(
            lambda transaction: enrolling.enrol(transaction, actor, request.key, guid, issued, now_ms)
        )
