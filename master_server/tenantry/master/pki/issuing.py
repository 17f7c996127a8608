"""Issues certificates: to Tenants from a request of which only the public key is taken, and to the Master itself."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tenantry.master.pki.authority import Authority
from tenantry.master.pki.certificates import (
    BACKDATE_MS,
    DAY_MS,
    certificate_name,
    encode_certificate,
    encode_key,
    generate_key,
    hash_public_key,
    key_usage,
    random_serial,
    to_datetime,
    valid_from,
    valid_until,
    write_serial,
)
from tenantry.protocol.failures import CertificateRequestRejected, FieldInvalid
from tenantry.protocol.names import (
    check_guid,
    check_trust_domain,
    listener_name,
    machine_identity,
    master_identity,
    tenant_identity,
)

REQUEST_LIMIT: Final = 8 * 1024
TENANT_LIFETIME_MS: Final = 7 * DAY_MS
SERVER_LIFETIME_MS: Final = 30 * DAY_MS
_LISTENERS: Final = ("api", "link", "machines", "tunnels", "relay")
_STRONG_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


class AuthorityOutOfTime(Exception):
    """An authority cannot issue because its intermediate is not valid now: it is over, or the clock is wrong."""

    def __init__(self, authority: Authority, now: int) -> None:
        end = authority.intermediate.not_valid_after_utc.isoformat()
        begin = authority.intermediate.not_valid_before_utc.isoformat()
        super().__init__(
            f"authority {authority.id} cannot issue: its intermediate is valid from {begin} to {end}, "
            f"the clock says {to_datetime(now).isoformat()}"
        )
        self.authority = authority.id


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """The new certificate of a Tenant or a machine's user. Times in Unix milliseconds."""

    authority_id: str
    serial: str
    """32 lower-case hexadecimal digits."""
    chain_pem: bytes
    """The certificate and the intermediate, in this order."""
    not_before: int
    not_after: int
    spki_sha256: str
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), lower-case hexadecimal."""


@dataclass(frozen=True, slots=True)
class IssuedServerCertificate:
    """A Master's new key and certificate. Times in Unix milliseconds."""

    authority_id: str
    serial: str
    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    """The certificate, the intermediate and the root, in this order, so that a daemon can compare the root's pin."""
    not_before: int
    not_after: int


def issue_tenant_certificate(
    authority: Authority,
    csr_der: bytes,
    guid: str,
    trust_domain: str,
    now: int,
    lifetime: int = TENANT_LIFETIME_MS,
) -> IssuedCertificate:
    """Issue the certificate of the Tenant `guid` for the key of a PKCS#10 request in DER.

    `now` is in Unix milliseconds, `lifetime` in milliseconds; the certificate ends no later than its issuer. Nothing
    but the public key is taken from the request. Raises CertificateRequestRejected, FieldInvalid for a GUID or trust
    domain that is none, AuthorityOutOfTime, ValueError for a lifetime under a second.
    """
    check_guid(guid)
    return _issue_for(authority, csr_der, guid, tenant_identity(check_trust_domain(trust_domain), guid), now, lifetime)


def issue_machine_certificate(
    authority: Authority, csr_der: bytes, name: str, trust_domain: str, now: int, lifetime: int
) -> IssuedCertificate:
    """Issue the certificate of the machine's user ``name``, which is checked already. As `issue_tenant_certificate` does."""
    identity = machine_identity(check_trust_domain(trust_domain), name)
    return _issue_for(authority, csr_der, name, identity, now, lifetime)


def _issue_for(
    authority: Authority, csr_der: bytes, common_name: str, identity: str, now: int, lifetime: int
) -> IssuedCertificate:
    public_key = _read_request(csr_der)
    certificate = _issue(
        authority,
        public_key,
        common_name,
        [x509.UniformResourceIdentifier(identity)],
        ExtendedKeyUsageOID.CLIENT_AUTH,
        now,
        lifetime,
    )
    return IssuedCertificate(
        authority_id=authority.id,
        serial=write_serial(certificate),
        chain_pem=encode_certificate(certificate) + authority.intermediate_pem,
        not_before=valid_from(certificate),
        not_after=valid_until(certificate),
        spki_sha256=hash_public_key(public_key),
    )


def issue_server_certificate(
    authority: Authority,
    names: Iterable[str],
    trust_domain: str,
    now: int,
    lifetime: int = SERVER_LIFETIME_MS,
) -> IssuedServerCertificate:
    """Issue a certificate and a new key to the Master's listeners.

    It stands for the name of each listener in the trust domain (`api.` and so on), the host names and IP addresses in `names`,
    localhost, and the Master's SPIFFE id. `now` is in Unix milliseconds, `lifetime` in milliseconds. Raises FieldInvalid for a
    name that is neither a host name nor an address, AuthorityOutOfTime, ValueError for a lifetime under a second.
    """
    check_trust_domain(trust_domain)
    wanted: list[x509.GeneralName] = [x509.DNSName(listener_name(name, trust_domain)) for name in _LISTENERS]
    wanted += [_host_name(name) for name in names]
    wanted += [x509.DNSName("localhost"), x509.UniformResourceIdentifier(master_identity(trust_domain))]
    key = generate_key()
    certificate = _issue(
        authority,
        key.public_key(),
        "Tenantry Master",
        list(dict.fromkeys(wanted)),
        ExtendedKeyUsageOID.SERVER_AUTH,
        now,
        lifetime,
    )
    return IssuedServerCertificate(
        authority_id=authority.id,
        serial=write_serial(certificate),
        key_pem=encode_key(key),
        chain_pem=encode_certificate(certificate) + authority.intermediate_pem + authority.root_pem,
        not_before=valid_from(certificate),
        not_after=valid_until(certificate),
    )


def _issue(
    authority: Authority,
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    names: Iterable[x509.GeneralName],
    usage: ObjectIdentifier,
    now: int,
    lifetime: int,
) -> x509.Certificate:
    if lifetime < 1000:
        raise ValueError(f"a certificate lives for at least a second, not {lifetime} ms")
    issuer = authority.intermediate
    if not valid_from(issuer) <= now < valid_until(issuer):
        raise AuthorityOutOfTime(authority, now)
    # A certificate that claims more time than its issuer would break at a moment that nobody watches.
    not_before = max(now - BACKDATE_MS, valid_from(issuer))
    not_after = min(now + lifetime, valid_until(issuer))
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(certificate_name(common_name))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(random_serial())
        .not_valid_before(to_datetime(not_before))
        .not_valid_after(to_datetime(not_after))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _read_request(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    if len(csr_der) > REQUEST_LIMIT:
        raise CertificateRequestRejected(cause=f"it has {len(csr_der)} bytes, at most {REQUEST_LIMIT} are read")
    # The bytes are a stranger's and the parser raises more kinds than ValueError (InvalidVersion, for one), hence the
    # wide net around each step.
    try:
        request = x509.load_der_x509_csr(csr_der)
    except Exception as error:
        raise CertificateRequestRejected(cause="it is not a PKCS#10 request in DER") from error
    try:
        key = request.public_key()
    except Exception as error:
        raise CertificateRequestRejected(cause="its public key cannot be read; use a P-256 key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        # gRPC refuses Ed25519 client certificates, and one kind of key is one thing less to get wrong.
        raise CertificateRequestRejected(cause=f"its key is {_describe_key(key)}; use a P-256 key")
    try:
        strong = isinstance(request.signature_hash_algorithm, _STRONG_HASHES)
        proven = strong and request.is_signature_valid
    except Exception as error:
        raise CertificateRequestRejected(cause="its signature cannot be read") from error
    if not strong:
        raise CertificateRequestRejected(cause="its signature is not ECDSA with SHA-256, SHA-384 or SHA-512")
    if not proven:
        raise CertificateRequestRejected(cause="its signature was not made with its own key")
    return key


def _describe_key(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"of the curve {key.curve.name}"
    return f"of the kind {type(key).__name__.removesuffix('PublicKey')}"


def _host_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    host = name.lower().removesuffix(".")
    if not _HOST.fullmatch(host) or host.rpartition(".")[2].isdecimal():
        raise FieldInvalid(
            field="names", problem=f"holds {name[:80]!r}", expected="host names (without wildcards) and IP addresses"
        )
    return x509.DNSName(host)
