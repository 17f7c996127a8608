"""F32: delete and re-key with revocation end a live link within two seconds, during a stream and during renewal."""

import asyncio

import grpc.aio
import pytest

from tenantry.master.domain.records import StreamName
from tenantry.master.operations.enrolling import MOST_CERTIFICATES
from tenantry.protocol.failures import CertificateRevoked, CertificatesTooMany
from tenantry.protocol.messages import StatePush, Stream
from tenantry.v1 import link_service_pb2, link_service_pb2_grpc
from tests.faults.identity.revoking import LIMIT_S, check_cut
from tests.servers.deadlines import within
from tests.servers.master import MasterProcess
from tests.servers.operating import delete, read_records, rekey
from tests.servers.refusals import refused
from tests.servers.wire_tenant import Identity, WireTenant, enrolled, key_pem, make_key, make_request, move, open_link


@pytest.mark.parametrize("way", ["delete", "rekey"])
async def test_f32_a_live_stream_is_cut_within_two_seconds(master: MasterProcess, way: str, rounds: int) -> None:
    """Of many links at once, every one; what was acknowledged before is stored, nothing after."""
    await asyncio.gather(*(check_cut(master, f"{way} {number}", way) for number in range(4 * rounds)))


async def test_f32_a_revoked_tenant_gets_no_link_and_no_certificate(master: MasterProcess) -> None:
    """Every way in is closed at once, also on the connection that was open before."""
    tenant = WireTenant(await enrolled(master, "revoked for good"))
    async with master.link_channel(tenant.identity.key, tenant.identity.chain) as channel:
        stub = link_service_pb2_grpc.LinkServiceStub(channel)
        request = link_service_pb2.RenewCertificateRequest(certificate_request=make_request(make_key()))
        await stub.RenewCertificate(request)
        await delete(master, tenant.identity.guid)
        with refused(CertificateRevoked):
            await stub.RenewCertificate(request)
    async with open_link(master, tenant.identity) as link:
        with refused(CertificateRevoked):
            await link.open(tenant)


async def test_f32_revocation_wins_against_renewals_under_way(master: MasterProcess, rounds: int) -> None:
    """Renewals race with the revocation: whichever certificate came out, none of them opens anything afterwards."""
    for number in range(rounds):
        tenant = WireTenant(await enrolled(master, f"renewing {number}"))
        private = make_key()
        async with master.link_channel(tenant.identity.key, tenant.identity.chain) as channel:
            stub = link_service_pb2_grpc.LinkServiceStub(channel)
            request = link_service_pb2.RenewCertificateRequest(certificate_request=make_request(private))
            renewals = [stub.RenewCertificate(request) for _ in range(6)]
            answers, _ = await asyncio.gather(
                asyncio.gather(*renewals, return_exceptions=True), rekey(master, tenant.identity.guid, revoke=True)
            )
        chains = [answer.certificate_chain for answer in answers if not isinstance(answer, BaseException)]
        for chain in chains:
            async with master.link_channel(key_pem(private), chain.encode()) as channel:
                call = link_service_pb2_grpc.LinkServiceStub(channel).RenewCertificate(request)
                with refused(CertificateRevoked):
                    await call


async def test_one_tenant_does_not_fill_the_audit_with_renewals(master: MasterProcess) -> None:
    """It gets so many certificates and no more, by whichever of them it asks; its link and other Tenants do not notice."""
    greedy, other = [await enrolled(master, name) for name in ("greedy for certificates", "beside the greedy one")]
    private, chain = make_key(), ""
    request = link_service_pb2.RenewCertificateRequest(certificate_request=make_request(private))
    async with master.link_channel(greedy.key, greedy.chain) as channel:
        stub = link_service_pb2_grpc.LinkServiceStub(channel)
        for _ in range(MOST_CERTIFICATES - 1):
            chain = (await stub.RenewCertificate(request)).certificate_chain
        with refused(CertificatesTooMany):
            await stub.RenewCertificate(request)
    async with master.link_channel(key_pem(private), chain.encode()) as channel:
        with refused(CertificatesTooMany):
            await link_service_pb2_grpc.LinkServiceStub(channel).RenewCertificate(request)
    audit = await read_records(master, StreamName.AUDIT_MESSAGES.value, greedy.guid)
    assert [one.fields["action"] for one in audit].count("tenant.renew") == MOST_CERTIFICATES - 1
    tenant = WireTenant(Identity(greedy.guid, key_pem(private), chain.encode()))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
    async with master.link_channel(other.key, other.chain) as channel:
        await link_service_pb2_grpc.LinkServiceStub(channel).RenewCertificate(request)


async def test_f32_links_of_other_tenants_go_on(master: MasterProcess) -> None:
    """Deleting one Tenant is nothing to its neighbours."""
    kept, gone = [WireTenant(await enrolled(master, name)) for name in ("kept beside", "deleted beside")]
    async with open_link(master, kept.identity) as link, open_link(master, gone.identity) as doomed:
        await link.open(kept)
        await doomed.open(gone)
        await move(master, kept.identity.guid, "Activate")
        await link.read_until(StatePush)
        await delete(master, gone.identity.guid)
        async with within(LIMIT_S):
            with pytest.raises(grpc.aio.AioRpcError):
                await doomed.read_until(type(None))
        await link.store(kept, Stream.METRICS, kept.frames(2))
    assert len(await read_records(master, "metricsMaster", kept.identity.guid)) == 2 * 2
