"""Who a peer is, by its certificate: the one place where it becomes a Tenant's GUID or the name of a machine's user.

TLS has verified the chain already. This checks what TLS does not: that the certificate names exactly one identity of this
trust domain and nothing else, and that it is valid at this moment, since an open connection outlives its certificate.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tenantry.master.pki.certificates import to_datetime, valid_from, valid_until, write_serial
from tenantry.protocol.failures import CertificateExpired, PeerCertificateInvalid
from tenantry.protocol.names import parse_machine_identity, parse_tenant_identity


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
    certificate, identity = _read(peer_certificate_pem)
    guid = parse_tenant_identity(identity, trust_domain)
    serial = _check_time(certificate, now)
    return PeerIdentity(guid, serial, valid_from(certificate), valid_until(certificate))


def identify_machine(peer_certificate_pem: bytes, trust_domain: str, now: int) -> MachineIdentity:
    """Return the machine's user that the certificate names. As strict as `identify`, and raises the same."""
    certificate, identity = _read(peer_certificate_pem)
    name = parse_machine_identity(identity, trust_domain)
    return MachineIdentity(name, _check_time(certificate, now))


def _read(peer_certificate_pem: bytes) -> tuple[x509.Certificate, str]:
    """The certificate, when it is for client authentication alone, and the one name that it has."""
    try:
        certificate = x509.load_pem_x509_certificate(peer_certificate_pem)
        key = certificate.public_key()
        extensions = certificate.extensions
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        usages = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise PeerCertificateInvalid(cause=f"it lacks the extension {error.oid.dotted_string}") from None
    except Exception as error:
        # The parser raises more kinds than it documents; whatever cannot be read is nobody's.
        raise PeerCertificateInvalid(cause="it cannot be read") from error
    _check_purpose(key, usages, constraints, usage)
    if len(names) != 1:
        raise PeerCertificateInvalid(cause=f"it has {len(names)} names instead of one")
    name = names[0]
    if not isinstance(name, x509.UniformResourceIdentifier):
        raise PeerCertificateInvalid(cause="its name is not a URI")
    return certificate, name.value


def _check_time(certificate: x509.Certificate, now: int) -> str:
    """The serial, when the certificate is valid now."""
    serial = write_serial(certificate)
    if now < valid_from(certificate):
        begin = certificate.not_valid_before_utc.isoformat()
        clock = to_datetime(now).isoformat()
        raise PeerCertificateInvalid(cause=f"it is not valid before {begin}; the Master's clock says {clock}")
    if now >= valid_until(certificate):
        raise CertificateExpired(
            serial=serial,
            not_after=certificate.not_valid_after_utc.isoformat(),
            server_time=to_datetime(now).isoformat(),
        )
    return serial


def _check_purpose(
    key: object, usages: list[x509.ObjectIdentifier], constraints: x509.BasicConstraints, usage: x509.KeyUsage
) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PeerCertificateInvalid(cause="its key is not P-256")
    if constraints.ca or usage.key_cert_sign:
        raise PeerCertificateInvalid(cause="it is an authority's")
    if usages != [ExtendedKeyUsageOID.CLIENT_AUTH] or not usage.digital_signature:
        raise PeerCertificateInvalid(cause="it is not for client authentication alone")
