"""Who a peer is, by its certificate: the one place where it becomes a Tenant's GUID or the name of a machine's user.

TLS has verified the chain already. This checks what TLS does not: that the certificate names exactly one identity of this
trust domain and nothing else, and that it is valid at this moment, since an open connection outlives its certificate.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from tenantry.master.pki.certificates import to_datetime, valid_from, valid_until, write_serial
from tenantry.protocol.failures import CertificateExpired, PeerCertificateInvalid
from tenantry.protocol.names import parse_machine_identity, parse_tenant_identity

_NEEDED: Final = (
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
)
_KEPT: Final = 64
"""Certificates that were read and are remembered: each connection through a tunnel is a call with the Tenant's."""


@dataclass(frozen=True, slots=True)
class MachineIdentity:
    """A machine's user as its certificate names it."""

    name: str
    serial: str
    """32 lower-case hexadecimal digits, as in IssuedCertificate."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """A Tenant as its certificate names it."""

    guid: str
    serial: str
    """32 lower-case hexadecimal digits, as in IssuedCertificate."""
    not_before: int
    """Begin of the validity, Unix milliseconds."""
    not_after: int
    """End of the validity, Unix milliseconds; the certificate is valid before this moment."""


def identify(peer_certificate_pem: bytes, trust_domain: str, now: int) -> PeerIdentity:
    """Return the Tenant that the certificate names; `now` is the Master's clock in Unix milliseconds.

    Raises CertificateExpired, and PeerCertificateInvalid for everything else that is not a Tenant's valid certificate:
    other than exactly one name, a foreign name, other than exactly client authentication, a CA, not valid yet.
    """
    certificate = _read(peer_certificate_pem)
    guid = parse_tenant_identity(certificate.name, trust_domain)
    _check_time(certificate, now)
    return PeerIdentity(guid, certificate.serial, certificate.begin_ms, certificate.end_ms)


def identify_machine(peer_certificate_pem: bytes, trust_domain: str, now: int) -> MachineIdentity:
    """Return the machine's user that the certificate names. As strict as `identify`, and raises the same."""
    certificate = _read(peer_certificate_pem)
    name = parse_machine_identity(certificate.name, trust_domain)
    _check_time(certificate, now)
    return MachineIdentity(name, certificate.serial)


@dataclass(frozen=True, slots=True)
class _Certificate:
    """One for client authentication alone, with the one name that it has."""

    name: str
    serial: str
    begin_ms: int
    end_ms: int


@lru_cache(maxsize=_KEPT)
def _read(peer_certificate_pem: bytes) -> _Certificate:
    """What a certificate says, which is the same whenever it is read. What is refused is not remembered."""
    try:
        certificate = x509.load_pem_x509_certificate(peer_certificate_pem)
        key = certificate.public_key()
        found: dict[x509.ObjectIdentifier, Any] = {one.oid: one.value for one in certificate.extensions}
    except Exception as error:
        # The parser raises more kinds than it documents; whatever cannot be read is nobody's.
        raise PeerCertificateInvalid(cause="it cannot be read") from error
    missing = [oid for oid in _NEEDED if oid not in found]
    if missing:
        raise PeerCertificateInvalid(cause=f"it lacks the extension {missing[0].dotted_string}")
    alternatives, purposes, constraints, usage = (found[oid] for oid in _NEEDED)
    names, usages = list(alternatives), list(purposes)
    _check_purpose(key, usages, constraints, usage)
    if len(names) != 1:
        raise PeerCertificateInvalid(cause=f"it has {len(names)} names instead of one")
    name = names[0]
    if not isinstance(name, x509.UniformResourceIdentifier):
        raise PeerCertificateInvalid(cause="its name is not a URI")
    return _Certificate(name.value, write_serial(certificate), valid_from(certificate), valid_until(certificate))


def _check_time(certificate: _Certificate, now: int) -> None:
    """Whether it is valid now."""
    if now < certificate.begin_ms:
        begin, clock = (to_datetime(moment).isoformat() for moment in (certificate.begin_ms, now))
        raise PeerCertificateInvalid(cause=f"it is not valid before {begin}; the Master's clock says {clock}")
    if now >= certificate.end_ms:
        raise CertificateExpired(
            serial=certificate.serial,
            not_after=to_datetime(certificate.end_ms).isoformat(),
            server_time=to_datetime(now).isoformat(),
        )


def _check_purpose(
    key: object, usages: list[x509.ObjectIdentifier], constraints: x509.BasicConstraints, usage: x509.KeyUsage
) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PeerCertificateInvalid(cause="its key is not P-256")
    if constraints.ca or usage.key_cert_sign:
        raise PeerCertificateInvalid(cause="it is an authority's")
    if usages != [ExtendedKeyUsageOID.CLIENT_AUTH] or not usage.digital_signature:
        raise PeerCertificateInvalid(cause="it is not for client authentication alone")
