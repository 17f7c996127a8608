"""`EnrolmentService`: a key becomes a certificate."""

from tenantry.licensing.issuers import encode_issuer
from tenantry.master.domain.tenants import Tenant
from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations import enrolling
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.licensing import HandedLicence, LicenceBook
from tenantry.master.operations.throttling import AttemptLimit
from tenantry.master.pki.issuing import issue_tenant_certificate
from tenantry.master.rpc.callers import Context, peer_address, peer_host
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import EnrolmentRefused, Failure, FieldInvalid, LicenceExpired, LicenceMissing
from tenantry.protocol.names import check_guid
from tenantry.transport.wire_values import to_timestamp
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
        licences: LicenceBook,
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
        self._licences = licences
        self._trust_domain = trust_domain
        self._link_addresses = link_addresses
        self._lifetime_ms = certificate_lifetime_ms

    async def Enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolResponse:
        host, actor = peer_host(context), Actor("tenant", request.guid[:36], peer_address(context))
        self._attempts.check(host, self._clocks.steady_ms())
        try:
            enrolled = await self._enrol(request, actor)
        except Failure as failure:
            # Who has the right key guesses nothing, and comes back when the licence is there.
            if not isinstance(failure, (LicenceMissing, LicenceExpired)):
                self._attempts.failed(host, self._clocks.steady_ms())
            self._metrics.enrolment_ended(issued=False)
            if isinstance(failure, EnrolmentRefused):
                now_ms = self._clocks.wall_ms()
                await self._committer.run(
                    lambda transaction: enrolling.record_refused_enrolment(transaction, actor, request.key, now_ms)
                )
            raise
        self._metrics.enrolment_ended(issued=True)
        handed = enrolled.licence
        return pb.EnrolResponse(
            certificate_chain=enrolled.chain,
            trust_bundle=self._keeper.trust.bundle.pem.decode("ascii"),
            trust_domain=self._trust_domain,
            link_addresses=self._link_addresses,
            server_time=to_timestamp(self._clocks.wall_ms()),
            licence="" if handed is None else handed.text,
            licence_issuer="" if handed is None else encode_issuer(handed.issuer),
        )

    async def GetServerTime(self, request: pb.GetServerTimeRequest, context: Context) -> pb.GetServerTimeResponse:
        return pb.GetServerTimeResponse(server_time=to_timestamp(self._clocks.wall_ms()))

    async def _enrol(self, request: pb.EnrolRequest, actor: Actor) -> enrolling.Enrolled:
        try:
            guid = check_guid(request.guid)
        except FieldInvalid:
            raise EnrolmentRefused from None
        now_ms = self._clocks.wall_ms()
        issued = issue_tenant_certificate(
            self._keeper.trust.issuing, request.certificate_request, guid, self._trust_domain, now_ms, self._lifetime_ms
        )

        def admit(transaction: Transaction, tenant: Tenant, at_ms: int) -> HandedLicence | None:
            return self._licences.admit(transaction, tenant, request.machine_fingerprint, request.licence, at_ms)

        return await self._committer.run(
            lambda transaction: enrolling.enrol(transaction, actor, request.key, guid, issued, admit, now_ms)
        )
