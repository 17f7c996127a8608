"""F33: certificates end and authorities change while links stream: nobody stays too long, nothing is lost or doubled."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509

from tenantry.protocol.failures import (
    AuthorityInWrongState,
    AuthorityNotFound,
    AuthorityStillNeeded,
    CertificateExpired,
    CertificateRevoked,
)
from tenantry.protocol.messages import RenewPush, StatePush, Stream, TrustBundlePush, TrustReport
from tenantry.v1 import authority_service_pb2 as pb
from tenantry.v1 import link_service_pb2, link_service_pb2_grpc
from tests.servers.deadlines import eventually, within
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import call, read_records
from tests.servers.refusals import check_refusal, refused
from tests.servers.wire_tenant import (
    Identity,
    WireLink,
    WireTenant,
    enrolled,
    key_pem,
    make_key,
    make_request,
    move,
    open_link,
)

CUT_S = 5.0
"""How soon after its end by the Master's clock, which is looked at every second."""


async def test_f33_a_certificate_that_ends_during_a_stream_ends_the_stream(tmp_path: Path) -> None:
    """Cut soon after the end by the Master's clock, with the reason; the same connection opens nothing any more."""
    with running_master(tmp_path, "certificate_lifetime=5s") as master:
        tenant = WireTenant(await enrolled(master, "short-lived"))
        end = x509.load_pem_x509_certificates(tenant.identity.chain)[0].not_valid_after_utc.timestamp()
        async with master.link_channel(tenant.identity.key, tenant.identity.chain) as channel:
            stub = link_service_pb2_grpc.LinkServiceStub(channel)
            link = WireLink(stub.Connect())
            await link.open(tenant)
            await move(master, tenant.identity.guid, "Activate")
            await link.read_until(StatePush)
            await link.store(tenant, Stream.METRICS, tenant.frames(3))
            async with within(end - time.time() + CUT_S):
                with refused(CertificateExpired):
                    await link.read_until(type(None))
            assert time.time() >= end
            with refused(CertificateExpired):
                await WireLink(stub.Connect()).read()  # refused before anything is said
            request = link_service_pb2.RenewCertificateRequest(certificate_request=make_request(make_key()))
            with refused(CertificateExpired):
                await stub.RenewCertificate(request)
        assert len(await read_records(master, "metricsMaster", tenant.identity.guid)) == 3 * 2


class TrustsAll(MasterProcess):
    """The same Master for clients that trust every root it has made, as a pushed bundle says."""

    @property
    def root(self) -> bytes:
        """All roots, PEM."""
        return b"".join(path.read_bytes() for path in sorted((self.data / "pki").glob("*/root.pem")))


@contextlib.contextmanager
def replaceable_master(folder: Path) -> Iterator[TrustsAll]:
    """A Master whose authority is to be replaced."""
    with running_master(folder) as master:
        yield TrustsAll(master.data, master.token, api_address=master.api_address, link_address=master.link_address)


async def authorities(master: MasterProcess) -> dict[str, pb.Authority]:
    """All authorities by id."""
    answer = await call(master, "AuthorityService", "ListAuthorities", pb.ListAuthoritiesRequest())
    return {one.id: one for one in answer.authorities}


async def retire(master: MasterProcess, authority: str, *, force: bool = False) -> None:
    """Trust an authority no longer."""
    await call(master, "AuthorityService", "RetireAuthority", pb.RetireAuthorityRequest(id=authority, force=force))


async def renewed(master: MasterProcess, tenant: WireTenant) -> Identity:
    """A new certificate."""
    private = make_key()
    async with master.link_channel(tenant.identity.key, tenant.identity.chain) as channel:
        request = link_service_pb2.RenewCertificateRequest(certificate_request=make_request(private))
        answer = await link_service_pb2_grpc.LinkServiceStub(channel).RenewCertificate(request)
    return Identity(tenant.identity.guid, key_pem(private), answer.certificate_chain.encode())


async def test_f33_an_authority_is_replaced_under_a_stream_without_loss(tmp_path: Path) -> None:
    """Prepare, activate, retire while a Tenant streams: each record once; the link under the old authority is cut."""
    with replaceable_master(tmp_path) as master:
        tenant, straggler = [WireTenant(await enrolled(master, name)) for name in ("rotates", "straggles")]
        (old,) = await authorities(master)
        sent = 0
        async with open_link(master, straggler.identity) as left_behind:
            await left_behind.open(straggler)
            async with open_link(master, tenant.identity) as link:
                await link.open(tenant)
                await move(master, tenant.identity.guid, "Activate")
                await link.read_until(StatePush)
                sent += await _stream(link, tenant)
                answer = await call(master, "AuthorityService", "PrepareAuthority", pb.PrepareAuthorityRequest())
                new = answer.authority.id
                bundle = await _bundle_of(link, master)
                with refused(AuthorityStillNeeded, tenants="2"):
                    await call(master, "AuthorityService", "ActivateAuthority", pb.ActivateAuthorityRequest(id=new))
                for one in (link, left_behind):
                    await one.send(TrustReport(bundle))
                sent += await _stream(link, tenant)
                await _until_confirmed(master, new)
                await call(master, "AuthorityService", "ActivateAuthority", pb.ActivateAuthorityRequest(id=new))
                await link.read_until(RenewPush)
                sent += await _stream(link, tenant)
                tenant.identity = await renewed(master, tenant)
            async with open_link(master, tenant.identity) as link:
                await link.open(tenant)
                sent += await _stream(link, tenant)
                with refused(AuthorityStillNeeded, tenants="1"):
                    await retire(master, old)
                await retire(master, old, force=True)
                with refused(CertificateRevoked):
                    async with within(2):
                        await left_behind.read_until(type(None))
                sent += await _stream(link, tenant)
        async with open_link(master, tenant.identity) as link:
            await link.open(tenant)
            sent += await _stream(link, tenant)
        async with open_link(master, straggler.identity) as link:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async with asyncio.timeout(60):
                    await link.open(straggler)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
        stored = await read_records(master, "metricsMaster", tenant.identity.guid)
        keys = [(one.timestamp.ToMilliseconds(), str(one.fields["metric"])) for one in stored]
        assert len(keys) == len(set(keys)) == sent * 2


async def _stream(link: WireLink, tenant: WireTenant) -> int:
    start = 1_000_000_000_000 + 1_000 * tenant.marks[Stream.METRICS].last_seq
    await link.store(tenant, Stream.METRICS, tenant.frames(20, start_ms=start))
    return 20


async def _bundle_of(link: WireLink, master: MasterProcess) -> bytes:
    while True:
        push = await link.read_until(TrustBundlePush)
        if push.trust_bundle.count("BEGIN CERTIFICATE") == len(await authorities(master)):
            return hashlib.sha256(push.trust_bundle.encode()).digest()


async def _until_confirmed(master: MasterProcess, authority: str) -> None:
    async def is_confirmed() -> bool:
        return not (await authorities(master))[authority].unconfirmed_tenants

    await eventually(is_confirmed, "every daemon's report")


async def test_f33_moves_that_the_authorities_table_does_not_have_are_refused(tmp_path: Path) -> None:
    """Unknown ids and moves out of turn: the right reason, and the same authorities as before."""
    with replaceable_master(tmp_path) as master:
        (only,) = await authorities(master)
        before = await authorities(master)
        for method, request in (
            ("ActivateAuthority", pb.ActivateAuthorityRequest(id="unknown")),
            ("RetireAuthority", pb.RetireAuthorityRequest(id="\r\n")),
        ):
            with refused(AuthorityNotFound):
                await call(master, "AuthorityService", method, request)
        with refused(AuthorityInWrongState, authority=only, state="issuing"):
            await call(master, "AuthorityService", "ActivateAuthority", pb.ActivateAuthorityRequest(id=only))
        with refused(AuthorityInWrongState, authority=only, state="issuing"):
            await retire(master, only, force=True)
        assert await authorities(master) == before
        prepares = [
            call(master, "AuthorityService", "PrepareAuthority", pb.PrepareAuthorityRequest()) for _ in range(4)
        ]
        answers = await asyncio.gather(*prepares, return_exceptions=True)
        assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, grpc.RpcError)
                check_refusal(answer, AuthorityInWrongState)
