"""The key that signs heads of the audit chain: Ed25519, in ``pki/audit/signing.key``, vouched for by the issuing authority.

The key stays; its certificate is made when the Master starts and again when the authority changes or two thirds of its life are
over. Every head carries the certificates that were in force, so nothing of them has to be kept.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.master.pki.authority import Authority, AuthorityDamaged, AuthorityFolder
from tenantry.master.pki.certificates import (
    BACKDATE_MS,
    DAY_MS,
    certificate_name,
    key_usage,
    random_serial,
    to_datetime,
    valid_from,
    valid_until,
)
from tenantry.process.files import private_directory, read_private, write_private
from tenantry.protocol.audit_chain import Head
from tenantry.transport.signed_documents import DOCUMENT_SIGNING
from tenantry.transport.signed_heads import audit_identity, sign_head, verify_head

FOLDER: Final = "audit"
KEY: Final = "signing.key"
LIFETIME_MS: Final = 365 * DAY_MS


def load_audit_key(pki: Path) -> Ed25519PrivateKey:
    """The key in the Master's ``pki`` folder; made and stored durably where there is none.

    Raises AuthorityDamaged, FileExposed, OSError.
    """
    path = pki / FOLDER / KEY
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except FileNotFoundError:
        key = Ed25519PrivateKey.generate()
        private_directory(path.parent)
        write_private(
            path,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuthorityDamaged(path.parent, f"{KEY} is not an unencrypted private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AuthorityDamaged(path.parent, f"{KEY} is not an Ed25519 key")
    return key


class HeadProver:
    """Proves heads by the roots of all authorities that this Master ever had, those that are trusted no longer included."""

    def __init__(self, folder: AuthorityFolder, trust_domain: str) -> None:
        self._folder = folder
        self._trust_domain = trust_domain

    def roots(self) -> bytes:
        """Their roots, PEM. Raises what `AuthorityFolder.load` raises."""
        return b"".join(self._folder.load(authority).root_pem for authority in self._folder.ids())

    def prove(self, token: str) -> Head:
        """What a head says. Raises HeadUnproven, and what `roots` raises."""
        return verify_head(token, self.roots(), self._trust_domain).head


@dataclass(slots=True)
class AuditSigner:
    """Signs heads in the name of whichever authority issues."""

    key: Ed25519PrivateKey = field(repr=False)
    trust_domain: str
    _certificate: x509.Certificate | None = None
    _issuer: x509.Certificate | None = None

    def sign(self, head: Head, authority: Authority) -> str:
        """The head as a compact JWS. Raises ValueError outside of the intermediate's validity."""
        certificate = self._certificate
        if (
            certificate is None
            or self._issuer != authority.intermediate
            or not valid_from(certificate) <= head.time_ms < _renewal_due(certificate)
        ):
            certificate = self._certificate = self._issue(authority, head.time_ms)
            self._issuer = authority.intermediate
        return sign_head(head, self.key, [certificate, authority.intermediate])

    def _issue(self, authority: Authority, now: int) -> x509.Certificate:
        issuer = authority.intermediate
        if not valid_from(issuer) <= now < valid_until(issuer):
            raise ValueError("the intermediate that vouches for the audit key is not valid now")
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            x509.CertificateBuilder()
            .subject_name(certificate_name("Tenantry Master audit"))
            .issuer_name(issuer.subject)
            .public_key(self.key.public_key())
            .serial_number(random_serial())
            .not_valid_before(to_datetime(max(now - BACKDATE_MS, valid_from(issuer))))
            .not_valid_after(to_datetime(min(now + LIFETIME_MS, valid_until(issuer))))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([DOCUMENT_SIGNING]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(audit_identity(self.trust_domain))]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .sign(authority.key, hashes.SHA256())
        )


def _renewal_due(certificate: x509.Certificate) -> int:
    begin, end = valid_from(certificate), valid_until(certificate)
    return begin + (end - begin) * 2 // 3
