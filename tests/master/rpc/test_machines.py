"""The `machines` listener: a client certificate is who calls, and nothing else is."""

from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest
from cryptography import x509
from google.protobuf.duration_pb2 import Duration

from tenantry.protocol.failures import (
    CertificateRequestRejected,
    CertificateRevoked,
    FieldInvalid,
    MachineCertificateNotFound,
    NotAllowed,
    NotAMachine,
    NotASession,
    PeerCertificateInvalid,
    UserNotFound,
)
from tenantry.v1 import session_service_pb2, tenant_service_pb2, user_service_pb2
from tests.servers.deadlines import PATIENCE_S
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import STUBS, read_records
from tests.servers.people import grant
from tests.servers.refusals import refused
from tests.servers.signing_in import SERVICES, Person, administrator, key_and_request, new_user, sign_in
from tests.servers.wire_tenant import enrolled, open_link

pb = user_service_pb2
ME = pb.GetUserRequest()


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master with a listener for machines."""
    with running_master(tmp_path_factory.mktemp("machines"), "machines_listen=127.0.0.1:0", quick=True) as running:
        yield running


async def issue(master: MasterProcess, name: str, request: bytes) -> pb.IssueCertificateResponse:
    """A certificate for this request."""
    wanted = pb.IssueCertificateRequest(name=name, certificate_request=request)
    issued: pb.IssueCertificateResponse = await administrator(master).call("UserService.IssueCertificate", wanted)
    return issued


async def me(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    """Who one is, on this channel."""
    answer = await SERVICES["UserService"](channel).GetUser(ME, metadata=metadata, timeout=15)
    return str(answer.user.name)


async def test_a_certificate_is_the_machines_user_with_its_roles(master: MasterProcess) -> None:
    """Without a token; what it may do follows its roles at once, and the audit names it."""
    name = await new_user(master, machine=True)
    key, request = key_and_request("someone-else")
    issued = await issue(master, name, request)
    certificate = x509.load_pem_x509_certificate(issued.certificate_chain.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [one.value for one in names] == [f"spiffe://tenantry.internal/user/{name}"]
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 29 <= lifetime.days <= 31
    listing = tenant_service_pb2.ListTenantsRequest()
    async with master.machine_channel(key, issued.certificate_chain.encode()) as channel:
        assert await me(channel) == name
        with refused(NotAllowed):
            await STUBS["TenantService"](channel).ListTenants(listing, timeout=PATIENCE_S)
        await grant(master, name, "GENERAL_ADMINISTRATOR", "main")
        await STUBS["TenantService"](channel).ListTenants(listing, timeout=PATIENCE_S)
        assert await me(channel, master.metadata) == name, "a token counts for nothing there"
        with refused(NotASession):
            await SERVICES["SessionService"](channel).SignOut(session_service_pb2.SignOutRequest(), timeout=PATIENCE_S)
        request_ = pb.CreateUserRequest(user=pb.User(name=f"{name}-child"))
        await SERVICES["UserService"](channel).CreateUser(request_, timeout=PATIENCE_S)
    actors = {str(record.fields["actor"]) for record in await read_records(master, "auditMessages")}
    assert any(name in actor and issued.certificate.serial[:8] in actor for actor in actors)
    await administrator(master).call("UserService.DeleteUser", pb.DeleteUserRequest(name=name))


async def test_a_certificate_ends_with_its_revocation_its_user_and_the_users_being_disabled(
    master: MasterProcess,
) -> None:
    """At the next call on the same connection."""
    admin, name = administrator(master), await new_user(master, machine=True)
    key, request = key_and_request()
    first, second = await issue(master, name, request), await issue(master, name, request)
    async with (
        master.machine_channel(key, first.certificate_chain.encode()) as one,
        master.machine_channel(key, second.certificate_chain.encode()) as other,
    ):
        assert await me(one) == await me(other) == name
        revoke = pb.RevokeCertificateRequest(serial=first.certificate.serial)
        assert (await admin.call("UserService.RevokeCertificate", revoke)).certificate.HasField("revoke_time")
        with refused(CertificateRevoked, serial=first.certificate.serial):
            await me(one)
        await admin.call("UserService.DisableUser", pb.DisableUserRequest(name=name))
        with refused(CertificateRevoked):
            await me(other)
        await admin.call("UserService.EnableUser", pb.EnableUserRequest(name=name))
        assert await me(other) == name
        listed = await admin.call("UserService.ListCertificates", pb.ListCertificatesRequest(name=name))
        assert [one.HasField("revoke_time") for one in listed.certificates] == [True, False]
        await admin.call("UserService.DeleteUser", pb.DeleteUserRequest(name=name))
        with refused(CertificateRevoked):
            await me(other)
    with refused(MachineCertificateNotFound):
        await admin.call("UserService.RevokeCertificate", pb.RevokeCertificateRequest(serial="0" * 32))


async def test_each_listener_takes_its_own_certificates_alone(master: MasterProcess) -> None:
    """A Tenant's is refused on `machines`, a machine's on `link`, and neither opens the `api` listener."""
    name = await new_user(master, machine=True)
    key, request = key_and_request()
    chain = (await issue(master, name, request)).certificate_chain.encode()
    tenant = await enrolled(master, "on machines")
    async with master.machine_channel(tenant.key, tenant.chain) as channel:
        with refused(PeerCertificateInvalid):
            await me(channel)
        with refused(PeerCertificateInvalid):
            await me(channel, master.metadata)
    async with master.link_channel(key, chain) as channel:
        stub: Any = channel.unary_unary("/tenantry.v1.LinkService/RenewCertificate")
        with refused(PeerCertificateInvalid):
            await stub(b"", timeout=PATIENCE_S)
    async with open_link(master, tenant) as link:
        assert link is not None
    options = (("grpc.ssl_target_name_override", "machines.tenantry.internal"),)
    assert master.machines_address is not None
    async with grpc.aio.secure_channel(
        master.machines_address, grpc.ssl_channel_credentials(master.root), options=options
    ) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await me(channel, master.metadata)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_only_machines_get_certificates_and_only_for_proper_requests(master: MasterProcess) -> None:
    """A person, nobody, a lifetime out of bounds, a request without a proof; and who may not, may not."""
    admin, person_name = administrator(master), await new_user(master)
    machine = await new_user(master, machine=True)
    _, request = key_and_request()
    with refused(NotAMachine):
        await issue(master, person_name, request)
    with refused(UserNotFound):
        await issue(master, "nobody", request)
    for broken in (b"", b"x" * 9_000, request[:-10] + bytes(10)):
        with refused(CertificateRequestRejected):
            await issue(master, machine, broken)
    for seconds in (86_399, 91 * 86_400):
        wanted = pb.IssueCertificateRequest(
            name=machine, certificate_request=request, lifetime=Duration(seconds=seconds)
        )
        with refused(FieldInvalid, field="lifetime"):
            await admin.call("UserService.IssueCertificate", wanted)
    person: Person = await sign_in(master, person_name)
    with refused(NotAllowed):
        wanted = pb.IssueCertificateRequest(name=machine, certificate_request=request)
        await person.call("UserService.IssueCertificate", wanted)
