"""`LicenceService`: the Master's licence on the wire."""

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.operations import licensing
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.licensing import InstalledLicence, LicenceBook
from tenantry.master.rpc.callers import ACTOR, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.protocol.licences import Licence, LicenceKind, LicenceRequest, encode_request
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import licence_service_pb2 as pb
from tenantry.v1 import licence_service_pb2_grpc

_KINDS = {
    LicenceKind.MASTER: pb.LICENCE_KIND_MASTER,
    LicenceKind.TENANT: pb.LICENCE_KIND_TENANT,
    LicenceKind.STAND_ALONE: pb.LICENCE_KIND_STAND_ALONE,
}


class LicenceServicer(licence_service_pb2_grpc.LicenceServiceServicer):
    """Wire <-> `operations.licensing`."""

    def __init__(self, committer: Committer, reader: StoreReader, book: LicenceBook, clocks: Clocks) -> None:
        self._committer = committer
        self._reader = reader
        self._book = book
        self._clocks = clocks

    async def GetLicence(self, request: pb.GetLicenceRequest, context: Context) -> pb.GetLicenceResponse:
        now_ms = self._clocks.wall_ms()
        standing = await self._reader.run(lambda transaction: self._book.standing(transaction, now_ms), EVERYTHING)
        active, refusal = standing.active, standing.refusal
        return pb.GetLicenceResponse(
            fingerprint=standing.fingerprint,
            active=None if active is None else _licence(active),
            refusal="" if refusal is None else refusal.reason,
            refusal_text="" if refusal is None else refusal.describe(),
            covered_until=None if active is None else to_timestamp(standing.covered_until_ms),
            tenants_used=standing.used,
            installed=map(_installed, standing.installed),
        )

    async def InstallLicence(self, request: pb.InstallLicenceRequest, context: Context) -> pb.InstallLicenceResponse:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        licence = await self._committer.run(
            lambda transaction: licensing.install(transaction, self._book, actor, request.licence, now_ms)
        )
        return pb.InstallLicenceResponse(licence=_licence(licence))

    async def RemoveLicence(self, request: pb.RemoveLicenceRequest, context: Context) -> pb.RemoveLicenceResponse:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        await self._committer.run(lambda transaction: licensing.remove(transaction, actor, request.serial, now_ms))
        return pb.RemoveLicenceResponse()

    async def RequestLicence(self, request: pb.RequestLicenceRequest, context: Context) -> pb.RequestLicenceResponse:
        fingerprint = await self._reader.run(licensing.own_fingerprint, EVERYTHING)
        wanted = LicenceRequest(
            LicenceKind.MASTER,
            fingerprint,
            self._clocks.wall_ms(),
            request.holder,
            request.tenants,
            tuple(sorted(set(request.modules))),
        )
        return pb.RequestLicenceResponse(request=encode_request(wanted))

    async def ListIssuers(self, request: pb.ListIssuersRequest, context: Context) -> pb.ListIssuersResponse:
        return pb.ListIssuersResponse(
            issuers=[
                pb.LicenceIssuer(
                    kid=one.issuer.kid,
                    name=one.issuer.name,
                    kinds=[_KINDS[kind] for kind in sorted(one.kinds)],
                    trust_time=to_timestamp(one.trusted_ms),
                    revoke_time=None if one.revoked_ms is None else to_timestamp(one.revoked_ms),
                )
                for one in self._book.issuers()
            ]
        )


def _licence(licence: Licence) -> pb.Licence:
    return pb.Licence(
        serial=licence.serial,
        kind=_KINDS[licence.kind],
        holder=licence.holder,
        fingerprint=licence.fingerprint,
        issue_time=to_timestamp(licence.issued_ms),
        not_before=to_timestamp(licence.not_before_ms),
        not_after=to_timestamp(licence.not_after_ms),
        tenants=licence.tenants,
        modules=licence.modules,
        evaluation=licence.evaluation,
    )


def _installed(one: InstalledLicence) -> pb.InstalledLicence:
    return pb.InstalledLicence(
        serial=one.stored.serial,
        licence=None if one.licence is None else _licence(one.licence),
        problem=one.problem,
        install_time=to_timestamp(one.stored.installed_ms),
        installed_by=one.stored.installed_by,
    )
