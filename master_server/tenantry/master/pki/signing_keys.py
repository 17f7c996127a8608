"""Keys with which a Master signs documents: Ed25519, in ``pki/<folder>/signing.key``, vouched for by the issuing authority.

A key stays; its certificate is made when the Master starts and again when the authority changes or two thirds of its life are
over. Every document carries the certificates that were in force, so nothing of them has to be kept.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.master.pki.authority import Authority, AuthorityDamaged
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
from tenantry.transport.signed_documents import DOCUMENT_SIGNING

KEY: Final = "signing.key"
LIFETIME_MS: Final = 365 * DAY_MS


def load_signing_key(pki: Path, folder: str) -> Ed25519PrivateKey:
    """The key in this folder of the Master's ``pki`` folder; made and stored durably where there is none.

    Raises AuthorityDamaged, FileExposed, OSError.
    """
    path = pki / folder / KEY
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


@dataclass(slots=True)
class VouchedKey:
    """A key with a certificate of whichever authority issues. ``identity`` is the one name in it, ``title`` its subject."""

    key: Ed25519PrivateKey = field(repr=False)
    identity: str
    title: str
    _certificate: x509.Certificate | None = None
    _issuer: x509.Certificate | None = None

    def certificates(self, authority: Authority, now: int) -> tuple[x509.Certificate, x509.Certificate]:
        """The key's own certificate and its issuer's, for a document of this moment (Unix ms).

        Raises ValueError outside of the intermediate's validity.
        """
        certificate = self._certificate
        if (
            certificate is None
            or self._issuer != authority.intermediate
            or not valid_from(certificate) <= now < _renewal_due(certificate)
        ):
            certificate = self._certificate = self._issue(authority, now)
            self._issuer = authority.intermediate
        return certificate, authority.intermediate

    def _issue(self, authority: Authority, now: int) -> x509.Certificate:
        issuer = authority.intermediate
        if not valid_from(issuer) <= now < valid_until(issuer):
            raise ValueError(f"the intermediate that vouches for the key of {self.title} is not valid now")
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            x509.CertificateBuilder()
            .subject_name(certificate_name(self.title))
            .issuer_name(issuer.subject)
            .public_key(self.key.public_key())
            .serial_number(random_serial())
            .not_valid_before(to_datetime(max(now - BACKDATE_MS, valid_from(issuer))))
            .not_valid_after(to_datetime(min(now + LIFETIME_MS, valid_until(issuer))))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([DOCUMENT_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(self.identity)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .sign(authority.key, hashes.SHA256())
        )


def _renewal_due(certificate: x509.Certificate) -> int:
    begin, end = valid_from(certificate), valid_until(certificate)
    return begin + (end - begin) * 2 // 3
