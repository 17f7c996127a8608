from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.pki.authority import Authority
from tenantry.master.pki.certificates import encode_certificate, key_usage, to_datetime
from tenantry.master.pki.issuing import (
    issue_machine_certificate,
    issue_server_certificate,
    issue_tenant_certificate,
)
from tenantry.master.pki.peer import MachineIdentity, PeerIdentity, identify, identify_machine
from tenantry.protocol.failures import CertificateExpired, PeerCertificateInvalid
from tests.master.pki.samples import DAY, GUID, NOW, OTHER_GUID, TRUST_DOMAIN, make_request

_KEY = ec.generate_private_key(ec.SECP256R1())
_IDENTITY = f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}"
_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def _certificate(
    names: Sequence[x509.GeneralName] = (x509.UniformResourceIdentifier(_IDENTITY),),
    *,
    usages: Sequence[x509.ObjectIdentifier] = _CLIENT,
    ca: bool = False,
    usage: x509.KeyUsage | None = None,
    without: type[x509.ExtensionType] | None = None,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = _KEY,
) -> bytes:
    """A certificate as a careless or hostile authority that TLS trusts could have issued it."""
    subject = x509.Name([])
    extensions: list[x509.ExtensionType] = [
        x509.BasicConstraints(ca=ca, path_length=None),
        usage or key_usage(digital_signature=True),
        x509.ExtendedKeyUsage(usages),
        x509.SubjectAlternativeName(names),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(to_datetime(NOW - DAY))
        .not_valid_after(to_datetime(NOW + DAY))
    )
    for extension in extensions:
        if without is None or not isinstance(extension, without):
            builder = builder.add_extension(extension, critical=False)
    return encode_certificate(builder.sign(_KEY, hashes.SHA256()))


def _uri(text: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(text)]


def test_an_issued_certificate_identifies_its_tenant(authority: Authority) -> None:
    """Out comes what went in: the GUID, the recorded serial, the validity."""
    issued = issue_tenant_certificate(authority, make_request(_KEY), GUID, TRUST_DOMAIN, NOW, DAY)
    expected = PeerIdentity(GUID, issued.serial, issued.not_before, issued.not_after)
    assert identify(issued.chain_pem, TRUST_DOMAIN, NOW) == expected
    assert identify(issued.chain_pem, TRUST_DOMAIN, issued.not_before) == expected
    assert identify(issued.chain_pem, TRUST_DOMAIN, issued.not_after - 1) == expected


def test_validity_is_judged_by_the_masters_clock(authority: Authority) -> None:
    """Before its time the certificate is invalid, from its end on expired, with both times in the message."""
    issued = issue_tenant_certificate(authority, make_request(_KEY), GUID, TRUST_DOMAIN, NOW, DAY)
    with pytest.raises(CertificateExpired, match=r"ended at 2023-11-15.*clock says 2023-11-15") as expired:
        identify(issued.chain_pem, TRUST_DOMAIN, issued.not_after)
    assert expired.value.metadata["serial"] == issued.serial
    with pytest.raises(PeerCertificateInvalid, match="not valid before 2023"):
        identify(issued.chain_pem, TRUST_DOMAIN, issued.not_before - 1)


@pytest.mark.parametrize(
    "identity",
    [
        f"spiffe://{TRUST_DOMAIN}/tenant/{GUID.upper()}",
        f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}/",
        f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}?x",
        f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}\n",
        f"spiffe://{TRUST_DOMAIN}/tenant/",
        f"spiffe://{TRUST_DOMAIN}/tenant//{GUID}",
        f"spiffe://{TRUST_DOMAIN}/tenant/../tenant/{GUID}",
        f"spiffe://{TRUST_DOMAIN}/tenant/0d4f6f1e-5b1c-1d53-9f55-0c1a4a1b2c3d",
        f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}\0",
        f"spiffe://{TRUST_DOMAIN}/master",
        f"spiffe://{TRUST_DOMAIN}.example/tenant/{GUID}",
        f"spiffe://x.{TRUST_DOMAIN}/tenant/{GUID}",
        f"spiffe://{TRUST_DOMAIN.upper()}/tenant/{GUID}",
        f"SPIFFE://{TRUST_DOMAIN}/tenant/{GUID}",
        f"https://{TRUST_DOMAIN}/tenant/{GUID}",
        "",
    ],
)
def test_only_the_exact_identity_counts(identity: str) -> None:
    """Whatever is not letter by letter a Tenant's id in this domain is refused."""
    with pytest.raises(PeerCertificateInvalid):
        identify(_certificate(_uri(identity)), TRUST_DOMAIN, NOW)


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ([*_uri(_IDENTITY), *_uri(f"spiffe://{TRUST_DOMAIN}/tenant/{OTHER_GUID}")], "2 names"),
        ([*_uri(_IDENTITY), *_uri(_IDENTITY)], "2 names"),
        ([*_uri(_IDENTITY), x509.DNSName("link.tenantry.internal")], "2 names"),
        ([x509.DNSName(_IDENTITY)], "not a URI"),
        ([x509.RFC822Name("root@example.com")], "not a URI"),
    ],
)
def test_there_is_exactly_one_name(names: list[x509.GeneralName], cause: str) -> None:
    """A second name of any kind, or one of another kind, makes the certificate nobody's."""
    with pytest.raises(PeerCertificateInvalid, match=cause):
        identify(_certificate(names), TRUST_DOMAIN, NOW)


@pytest.mark.parametrize(
    ("certificate", "cause"),
    [
        (_certificate(usages=[ExtendedKeyUsageOID.SERVER_AUTH]), "client authentication"),
        (_certificate(usages=[*_CLIENT, ExtendedKeyUsageOID.SERVER_AUTH]), "client authentication"),
        (_certificate(usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "client authentication"),
        (_certificate(usage=key_usage(crl_sign=True)), "client authentication"),
        (_certificate(ca=True), "authority"),
        (_certificate(usage=key_usage(digital_signature=True, key_cert_sign=True)), "authority"),
        (_certificate(without=x509.SubjectAlternativeName), r"lacks the extension 2\.5\.29\.17"),
        (_certificate(without=x509.ExtendedKeyUsage), r"lacks the extension 2\.5\.29\.37"),
        (_certificate(without=x509.BasicConstraints), r"lacks the extension 2\.5\.29\.19"),
        (_certificate(without=x509.KeyUsage), r"lacks the extension 2\.5\.29\.15"),
        (_certificate(key=ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (_certificate(key=ed25519.Ed25519PrivateKey.generate()), "P-256"),
    ],
)
def test_other_purposes_and_keys_are_refused(certificate: bytes, cause: str) -> None:
    """Server certificates, authorities, other keys and missing extensions are told apart by their cause."""
    with pytest.raises(PeerCertificateInvalid, match=cause):
        identify(certificate, TRUST_DOMAIN, NOW)


def test_the_sample_itself_is_accepted() -> None:
    """The certificate that the refusals vary is a good one; another domain refuses it."""
    assert identify(_certificate(), TRUST_DOMAIN, NOW).guid == GUID
    with pytest.raises(PeerCertificateInvalid):
        identify(_certificate(), "other.internal", NOW)


def test_the_master_and_authorities_are_no_tenants(authority: Authority) -> None:
    """A server certificate and both authority certificates are refused."""
    server = issue_server_certificate(authority, [], TRUST_DOMAIN, NOW)
    for certificate in (server.chain_pem, authority.intermediate_pem, authority.root_pem):
        with pytest.raises(PeerCertificateInvalid):
            identify(certificate, TRUST_DOMAIN, NOW)


@given(st.binary(max_size=300))
def test_garbage_is_refused(peer: bytes) -> None:
    """Arbitrary bytes are nobody's certificate."""
    with pytest.raises(PeerCertificateInvalid):
        identify(peer, TRUST_DOMAIN, NOW)


_GOOD = _certificate()


@given(st.integers(0, len(_GOOD) - 1), st.integers(0, 7))
def test_a_damaged_certificate_never_names_another(position: int, bit: int) -> None:
    """One flipped bit of the PEM text gives a typed refusal, or still this Tenant (TLS checks signatures)."""
    damaged = bytearray(_GOOD)
    damaged[position] ^= 1 << bit
    try:
        found = identify(bytes(damaged), TRUST_DOMAIN, NOW)
    except (PeerCertificateInvalid, CertificateExpired):
        return
    assert found.guid != OTHER_GUID


def test_a_machine_is_no_tenant_and_a_tenant_no_machine(authority: Authority) -> None:
    """Each certificate is what it was issued as, also where a machine is called like a Tenant."""
    machine = issue_machine_certificate(authority, make_request(_KEY), GUID, TRUST_DOMAIN, NOW, DAY)
    assert identify_machine(machine.chain_pem, TRUST_DOMAIN, NOW) == MachineIdentity(GUID, machine.serial)
    tenant = issue_tenant_certificate(authority, make_request(_KEY), GUID, TRUST_DOMAIN, NOW, DAY)
    with pytest.raises(PeerCertificateInvalid):
        identify(machine.chain_pem, TRUST_DOMAIN, NOW)
    with pytest.raises(PeerCertificateInvalid):
        identify_machine(tenant.chain_pem, TRUST_DOMAIN, NOW)
    with pytest.raises(CertificateExpired):
        identify_machine(machine.chain_pem, TRUST_DOMAIN, machine.not_after)


@pytest.mark.parametrize(
    "name", ["", "Robot", "a b", "a/b", "../robot", "robot?x", "robot\n", "robot@home", "-a", "x" * 65]
)
def test_only_a_machines_exact_name_counts(name: str) -> None:
    """Whatever is not letter by letter what a machine can be called is refused."""
    with pytest.raises(PeerCertificateInvalid):
        identify_machine(_certificate(_uri(f"spiffe://{TRUST_DOMAIN}/user/{name}")), TRUST_DOMAIN, NOW)
