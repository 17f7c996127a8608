"""F30: what a certificate request asks for is never granted; only its public key is taken, once it has proven itself."""

import asyncio

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from tenantry.protocol.failures import CertificateRequestRejected
from tenantry.v1 import enrolment_service_pb2, enrolment_service_pb2_grpc, link_service_pb2, link_service_pb2_grpc
from tests.servers.deadlines import PATIENCE_S
from tests.servers.master import TRUST_DOMAIN, MasterProcess
from tests.servers.refusals import check_refusal, refused, snapshot
from tests.servers.source_addresses import fresh_address, seen_from
from tests.servers.wire_tenant import create_tenant, enrolled, make_key, make_request

FOREIGN = "00000000-0000-4000-8000-000000000000"


def greedy_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Asks for everything: another Tenant's name, the Master's names, to be an authority, to be a server."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, FOREIGN),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "evil\r\n\x1b[31m"),
                ]
            )
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/tenant/{FOREIGN}"),
                    x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/master"),
                    x509.DNSName(f"api.{TRUST_DOMAIN}"),
                ]
            ),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=9), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
            critical=True,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def check_modest(chain: str, guid: str) -> None:
    """The certificate names this Tenant, is for clients, and is no authority."""
    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    assert names == [x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/tenant/{guid}")]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usages == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert FOREIGN.encode() not in leaf.public_bytes(serialization.Encoding.DER)
    assert b"evil" not in leaf.public_bytes(serialization.Encoding.DER)


async def enrol_with(master: MasterProcess, guid: str, key: str, request: bytes) -> str:
    """An enrolment from an address that nobody has used; the chain."""
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        answer = await stub.Enrol(
            enrolment_service_pb2.EnrolRequest(guid=guid, key=key, certificate_request=request), timeout=PATIENCE_S
        )
    return answer.certificate_chain


def _signed_by_another() -> bytes:
    """The request of one key with the signature of another request."""
    request = bytearray(make_request(make_key()))
    request[-1] ^= 1
    return bytes(request)


def hostile_requests() -> dict[str, bytes]:
    """Requests that must be rejected, by what is wrong with them."""
    good = make_request(make_key())
    return {
        "empty": b"",
        "garbage": b"\x00" * 100,
        "PEM instead of DER": b"-----BEGIN CERTIFICATE REQUEST-----\n" + good,
        "cut": good[:-10],
        "too long": make_request(make_key(), "x") + b"\x00" * 8_192,
        "signature changed": _signed_by_another(),
        "RSA": make_request(rsa.generate_private_key(65537, 2048)),
        "another curve": make_request(ec.generate_private_key(ec.SECP384R1())),
        "Ed25519": x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ed25519.Ed25519PrivateKey.generate(), None)
        .public_bytes(serialization.Encoding.DER),
        "nested for ever": b"\x30\x80" * 2_000,
    }


async def test_f30_a_greedy_request_gets_a_modest_certificate_by_enrolment_and_by_renewal(
    master: MasterProcess,
) -> None:
    """Subject, names, usages and constraints of the request are ignored on both ways to a certificate."""
    created = await create_tenant(master, "greedy")
    chain = await enrol_with(master, created.tenant.guid, created.enrolment.key, greedy_request(make_key()))
    check_modest(chain, created.tenant.guid)
    identity = await enrolled(master, "greedy renewal")
    async with master.link_channel(identity.key, identity.chain) as channel:
        request = link_service_pb2.RenewCertificateRequest(certificate_request=greedy_request(make_key()))
        answer = await link_service_pb2_grpc.LinkServiceStub(channel).RenewCertificate(request)
    check_modest(answer.certificate_chain, identity.guid)


@pytest.mark.parametrize("wrong", sorted(hostile_requests()))
async def test_f30_hostile_requests_are_rejected_on_both_ways_and_use_no_key_up(
    master: MasterProcess, wrong: str
) -> None:
    """The reason says what is wrong; nothing is changed, and the key still works."""
    request = hostile_requests()[wrong]
    created = await create_tenant(master, f"hostile {wrong}")
    identity = await enrolled(master, f"hostile renewal {wrong}")
    before = snapshot(master)
    with refused(CertificateRequestRejected):
        await enrol_with(master, created.tenant.guid, created.enrolment.key, request)
    async with master.link_channel(identity.key, identity.chain) as channel:
        stub = link_service_pb2_grpc.LinkServiceStub(channel)
        with refused(CertificateRequestRejected):
            await stub.RenewCertificate(link_service_pb2.RenewCertificateRequest(certificate_request=request))
    assert snapshot(master) == before
    good = make_request(make_key())
    check_modest(await enrol_with(master, created.tenant.guid, created.enrolment.key, good), created.tenant.guid)


@given(
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), min_size=1, max_size=6), cut=st.integers(0, 60)
)
def test_f30_changed_requests_never_crash_the_master(
    master: MasterProcess, flips: list[tuple[int, int]], cut: int
) -> None:
    """Bytes changed anywhere through the real API: rejected with a reason, or the modest certificate of this Tenant."""
    asyncio.run(_send_changed(master, flips, cut))


async def _send_changed(master: MasterProcess, flips: list[tuple[int, int]], cut: int) -> None:
    request = bytearray(greedy_request(make_key()))
    for place, change in flips:
        request[place % len(request)] ^= change
    identity = await enrolled(master, f"fuzzed {make_key().private_numbers().private_value:x}"[:60])
    async with master.link_channel(identity.key, identity.chain) as channel:
        stub = link_service_pb2_grpc.LinkServiceStub(channel)
        changed = bytes(request[: len(request) - cut])
        try:
            answer = await stub.RenewCertificate(link_service_pb2.RenewCertificateRequest(certificate_request=changed))
        except grpc.aio.AioRpcError as error:
            check_refusal(error, CertificateRequestRejected)
        else:
            check_modest(answer.certificate_chain, identity.guid)
