import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import VerificationError
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.pki.authority import Authority
from tenantry.master.pki.certificates import hash_public_key
from tenantry.master.pki.issuing import (
    SERVER_LIFETIME_MS,
    AuthorityOutOfTime,
    IssuedCertificate,
    issue_server_certificate,
    issue_tenant_certificate,
)
from tenantry.protocol.failures import CertificateRequestRejected, FieldInvalid
from tests.master.pki.samples import (
    DAY,
    GUID,
    NOW,
    OTHER_GUID,
    TRUST_DOMAIN,
    SigningKey,
    make_request,
    verify_client,
    verify_server,
)

_KEY = ec.generate_private_key(ec.SECP256R1())
_REQUEST = make_request(_KEY)
_CANARY = "evil-canary"


def _issue(authority: Authority, request: bytes) -> IssuedCertificate:
    return issue_tenant_certificate(authority, request, GUID, TRUST_DOMAIN, NOW, 7 * DAY)


def _leaf(issued: IssuedCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificates(issued.chain_pem)[0]


def _assert_only_ours(leaf: x509.Certificate, authority: Authority, key: ec.EllipticCurvePublicKey) -> None:
    """Assert that every field of a Tenant's certificate is the one that the Master chose."""
    assert leaf.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, GUID)])
    assert leaf.issuer == authority.intermediate.subject
    assert leaf.public_key() == key
    found = {extension.oid: (extension.critical, extension.value) for extension in leaf.extensions}
    issuer = authority.intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    identity = x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}")
    assert found == {
        x509.BasicConstraints.oid: (True, x509.BasicConstraints(ca=False, path_length=None)),
        x509.KeyUsage.oid: (True, usage),
        x509.ExtendedKeyUsage.oid: (False, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
        x509.SubjectAlternativeName.oid: (False, x509.SubjectAlternativeName([identity])),
        x509.SubjectKeyIdentifier.oid: (False, x509.SubjectKeyIdentifier.from_public_key(key)),
        x509.AuthorityKeyIdentifier.oid: (
            False,
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer),
        ),
    }
    assert usage.digital_signature
    assert not (usage.key_cert_sign or usage.crl_sign or usage.key_agreement or usage.key_encipherment)


def test_a_tenant_certificate_is_as_designed(authority: Authority) -> None:
    """All fields are ours, the chain verifies, and the returned facts are those of the certificate."""
    issued = _issue(authority, _REQUEST)
    leaf, intermediate = x509.load_pem_x509_certificates(issued.chain_pem)
    assert intermediate == authority.intermediate
    _assert_only_ours(leaf, authority, _KEY.public_key())
    assert verify_client(issued.chain_pem, authority, NOW) == [
        x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/tenant/{GUID}")
    ]
    assert issued.authority_id == authority.id
    assert issued.serial == f"{leaf.serial_number:032x}"
    assert issued.spki_sha256 == hash_public_key(_KEY.public_key())
    assert issued.not_before == int(leaf.not_valid_before_utc.timestamp() * 1000)
    assert issued.not_after == int(leaf.not_valid_after_utc.timestamp() * 1000)
    assert issued.not_after == (NOW + 7 * DAY) // 1000 * 1000


def test_validity_begins_five_minutes_early_but_not_before_the_issuers(authority: Authority) -> None:
    """A clock that is five minutes behind works, and the certificate stays within its issuer's time at both ends."""
    later = issue_tenant_certificate(authority, _REQUEST, GUID, TRUST_DOMAIN, NOW + DAY)
    assert later.not_before == (NOW + DAY - 300_000) // 1000 * 1000
    early = issue_tenant_certificate(authority, _REQUEST, GUID, TRUST_DOMAIN, NOW - 200_000)
    assert early.not_before == (NOW - 300_000) // 1000 * 1000
    last = issue_tenant_certificate(authority, _REQUEST, GUID, TRUST_DOMAIN, authority.intermediate_not_after - DAY)
    assert last.not_after == authority.intermediate_not_after


def test_serials_are_random(authority: Authority) -> None:
    """The same request gives another 128-bit serial each time."""
    serials = {_issue(authority, _REQUEST).serial for _ in range(20)}
    assert len(serials) == 20
    assert all(len(serial) == 32 for serial in serials)
    assert len({serial[:2] for serial in serials}) > 5


@pytest.mark.parametrize("moment", [-10 * DAY, 1096 * DAY])
def test_an_authority_out_of_its_time_issues_nothing(authority: Authority, moment: int) -> None:
    """An expired intermediate or a wrong clock is named, with both times."""
    with pytest.raises(AuthorityOutOfTime, match="valid from 2023-"):
        issue_tenant_certificate(authority, _REQUEST, GUID, TRUST_DOMAIN, NOW + moment)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa", "ed25519", "p384", "secp256k1"],
)
def test_only_p256_keys_are_certified(authority: Authority, key: SigningKey) -> None:
    """Another kind of key is refused with its name and the one that is accepted."""
    with pytest.raises(CertificateRequestRejected, match="use a P-256 key") as refusal:
        _issue(authority, make_request(key))
    assert refusal.value.reason == "CERTIFICATE_REQUEST_REJECTED"


def test_stronger_hashes_are_accepted(authority: Authority) -> None:
    """A request may be signed with SHA-384 or SHA-512."""
    for algorithm in (hashes.SHA384(), hashes.SHA512()):
        assert _issue(authority, make_request(_KEY, algorithm=algorithm)).serial


def test_a_request_for_somebody_elses_key_is_refused(authority: Authority) -> None:
    """A public key without proof of possession gets no certificate."""
    other = ec.generate_private_key(ec.SECP256R1())
    encode = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    mine, theirs = (key.public_key().public_bytes(*encode) for key in (_KEY, other))
    with pytest.raises(CertificateRequestRejected, match="own key"):
        _issue(authority, _REQUEST.replace(mine, theirs))


def test_a_huge_request_is_not_parsed(authority: Authority) -> None:
    """A request over 8 KiB is refused by its size alone, one just below by its content."""
    for size, cause in ((8193, "at most 8192"), (10_000_000, "at most 8192"), (8192, "not a PKCS#10")):
        with pytest.raises(CertificateRequestRejected, match=cause):
            _issue(authority, b"0" * size)
    names = [x509.DNSName(f"{_CANARY}{number}.example") for number in range(1000)]
    with pytest.raises(CertificateRequestRejected, match="at most 8192"):
        _issue(authority, make_request(_KEY, extensions=[(x509.SubjectAlternativeName(names), False)]))


@pytest.mark.parametrize("guid", ["", GUID.upper(), "not-a-guid", f"{GUID}/x", "0d4f6f1e-5b1c-1d53-9f55-0c1a4a1b2c3d"])
def test_the_callers_guid_is_checked(authority: Authority, guid: str) -> None:
    """A GUID that is not a lower-case version 4 UUID is never certified."""
    with pytest.raises(FieldInvalid):
        issue_tenant_certificate(authority, _REQUEST, guid, TRUST_DOMAIN, NOW)


def test_a_certificate_needs_a_lifetime(authority: Authority) -> None:
    """No time at all is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least a second"):
        issue_tenant_certificate(authority, _REQUEST, GUID, TRUST_DOMAIN, NOW, 0)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20).map(_CANARY.__add__)
_HOSTS = st.from_regex(r"[a-z0-9-]{0,20}", fullmatch=True).map(lambda text: f"{_CANARY}{text}.example")
_NAMES = st.one_of(
    _HOSTS.map(x509.DNSName),
    _HOSTS.map(lambda host: x509.RFC822Name(f"root@{host}")),
    _HOSTS.map(lambda host: x509.UniformResourceIdentifier(f"spiffe://{host}/tenant/{GUID}")),
    st.sampled_from(
        [
            x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/tenant/{OTHER_GUID}"),
            x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/master"),
            x509.DNSName(f"link.{TRUST_DOMAIN}"),
            x509.IPAddress(ipaddress.ip_address("10.66.66.66")),
        ]
    ),
    _TEXTS.map(lambda text: x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]))),
    _TEXTS.map(lambda text: x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x0b" + text[:11].encode()[:11])),
)
_SUBJECTS = st.lists(
    st.builds(
        x509.NameAttribute,
        st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.GIVEN_NAME, NameOID.USER_ID]),
        _TEXTS,
    ),
    max_size=4,
).map(x509.Name)
_EXTENSIONS = st.lists(
    st.one_of(
        st.lists(_NAMES, min_size=1, max_size=5).map(x509.SubjectAlternativeName),
        st.integers(0, 9).map(lambda length: x509.BasicConstraints(ca=True, path_length=length)),
        st.sampled_from(
            [
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
                x509.KeyUsage(True, True, True, True, True, True, True, False, False),
                x509.SubjectKeyIdentifier(_CANARY.encode()),
                x509.CertificatePolicies(
                    [x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), [f"https://{_CANARY}.example"])]
                ),
            ]
        ),
        _TEXTS.map(lambda text: x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.9"), text.encode())),
    ),
    unique_by=lambda extension: extension.oid,
    max_size=5,
)


@given(subject=_SUBJECTS, extensions=_EXTENSIONS, critical=st.booleans())
def test_nothing_of_a_hostile_request_but_its_key_is_taken(
    authority: Authority, subject: x509.Name, extensions: list[x509.ExtensionType], critical: bool
) -> None:
    """Subjects, names, usages, CA flags and foreign GUIDs of the requester appear nowhere in the issued bytes."""
    request = make_request(_KEY, subject, [(extension, critical) for extension in extensions])
    leaf = _leaf(_issue(authority, request))
    _assert_only_ours(leaf, authority, _KEY.public_key())
    issued = leaf.public_bytes(serialization.Encoding.DER)
    for foreign in (_CANARY.encode(), OTHER_GUID.encode(), b"/master", b"link.", bytes([10, 66, 66, 66])):
        assert foreign not in issued


@given(st.binary(max_size=600))
def test_garbage_is_refused(authority: Authority, request: bytes) -> None:
    """Arbitrary bytes fail in the one way that the caller knows."""
    with pytest.raises(CertificateRequestRejected):
        _issue(authority, request)


@given(st.integers(0, len(_REQUEST) - 1), st.binary(max_size=20))
def test_a_truncated_or_extended_request_is_refused(authority: Authority, length: int, tail: bytes) -> None:
    """A request cut anywhere, or followed by anything, is not signed."""
    with pytest.raises(CertificateRequestRejected):
        _issue(authority, _REQUEST[:length] + tail)
    with pytest.raises(CertificateRequestRejected):
        _issue(authority, _REQUEST + b"\0" + tail)


def test_a_flipped_bit_gains_nothing(authority: Authority) -> None:
    """With any single bit flipped the request is refused; only the signature's count of unused bits is free to vary."""
    accepted = []
    for bit in range(len(_REQUEST) * 8):
        damaged = bytearray(_REQUEST)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            issued = _issue(authority, bytes(damaged))
        except CertificateRequestRejected:
            continue
        _assert_only_ours(_leaf(issued), authority, _KEY.public_key())
        accepted.append(bit // 8)
    after_algorithm = _REQUEST.index(bytes.fromhex("06082a8648ce3d040302")) + 10
    assert set(accepted) <= {after_algorithm + 2}


def test_a_server_certificate_is_as_designed(authority: Authority) -> None:
    """The listeners' names, the configured ones, localhost and the Master's id, each once; server use only."""
    names = ["master.example", "192.0.2.7", "2001:db8::1", "MASTER.example.", "localhost"]
    issued = issue_server_certificate(authority, names, TRUST_DOMAIN, NOW)
    leaf, intermediate, root = x509.load_pem_x509_certificates(issued.chain_pem)
    assert (intermediate, root) == (authority.intermediate, authority.root)
    assert list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == [
        x509.DNSName(f"api.{TRUST_DOMAIN}"),
        x509.DNSName(f"link.{TRUST_DOMAIN}"),
        x509.DNSName(f"machines.{TRUST_DOMAIN}"),
        x509.DNSName(f"tunnels.{TRUST_DOMAIN}"),
        x509.DNSName(f"relay.{TRUST_DOMAIN}"),
        x509.DNSName("master.example"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.DNSName("localhost"),
        x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/master"),
    ]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    for name in ("api.tenantry.internal", "link.tenantry.internal", "master.example", "localhost"):
        verify_server(issued.chain_pem, authority, x509.DNSName(name), NOW)
    verify_server(issued.chain_pem, authority, x509.IPAddress(ipaddress.ip_address("192.0.2.7")), NOW)
    with pytest.raises(VerificationError):
        verify_server(issued.chain_pem, authority, x509.DNSName("other.example"), NOW)
    with pytest.raises(VerificationError):
        verify_client(issued.chain_pem, authority, NOW)
    key = serialization.load_pem_private_key(issued.key_pem, None)
    assert key.public_key() == leaf.public_key()
    assert "BEGIN PRIVATE" not in repr(issued)


def test_each_server_certificate_has_its_own_key(authority: Authority) -> None:
    """And the life that is set."""
    first = issue_server_certificate(authority, [], TRUST_DOMAIN, NOW + DAY)
    assert first.not_after - first.not_before == SERVER_LIFETIME_MS + 300_000
    assert issue_server_certificate(authority, [], TRUST_DOMAIN, NOW).key_pem != first.key_pem


@pytest.mark.parametrize(
    "name",
    ["", "*.example", "a b", "host:7443", "-x.example", "münchen.example", "a..b", "300.1.1.1", "x\n", "x" * 254],
)
def test_what_is_no_host_name_is_not_certified(authority: Authority, name: str) -> None:
    """Wildcards, ports, addresses with a typo and other texts are refused by name."""
    with pytest.raises(FieldInvalid, match="host names"):
        issue_server_certificate(authority, [name], TRUST_DOMAIN, NOW)


def test_a_tenant_certificate_does_not_serve(authority: Authority) -> None:
    """A Tenant cannot pose as the Master."""
    issued = _issue(authority, _REQUEST)
    with pytest.raises(VerificationError):
        verify_server(issued.chain_pem, authority, x509.DNSName(f"link.{TRUST_DOMAIN}"), NOW)
