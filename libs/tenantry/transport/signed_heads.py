"""Heads of the audit chain with their signature: compact JWS (Ed25519) that carry the certificates of their key.

The key's certificate is issued by the Master's authority, so whoever trusts the authority's root can verify a head, years later
too: certificates are judged at the moment that the head names. Imports a certificate library, and no gRPC.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from tenantry.protocol.audit_chain import Head, decode_head, encode_head
from tenantry.protocol.names import master_identity

ALGORITHM: Final = "Ed25519"
TYPE: Final = "tenantry-audit-head"
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""The extended key usage of the certificate (RFC 9336): neither TLS client nor TLS server."""
MAX_TOKEN: Final = 16 * 1024
_MAX_CHAIN: Final = 3
_MAX_HEADER: Final = 8 * 1024


class HeadUnproven(ValueError):
    """A head is not what it claims to be; the message says why."""


class _Registry(jws.JWSRegistry):
    """Certificates make the header longer than usual."""

    max_header_length = _MAX_HEADER


_registry: Final = _Registry(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True)
class ProvenHead:
    """A head whose signature is proven, and the SHA-256 of the root (DER, hexadecimal) that vouches for its key."""

    head: Head
    token: str
    root: str


def audit_identity(trust_domain: str) -> str:
    """The name in the certificate of the key that signs heads."""
    return f"{master_identity(trust_domain)}/audit"


def sign_head(head: Head, key: Ed25519PrivateKey, certificates: Sequence[x509.Certificate]) -> str:
    """The head as a compact JWS; ``certificates``: the key's own, and its issuer up to the root, without the root."""
    chain = [
        base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode() for certificate in certificates
    ]
    header: dict[str, Any] = {"alg": ALGORITHM, "typ": TYPE, "x5c": chain}
    return jws.serialize_compact(header, encode_head(head), OKPKey.import_key(key), registry=_registry)


def verify_head(token: str, roots_pem: bytes, trust_domain: str) -> ProvenHead:
    """Prove a head by roots (PEM) that are trusted. Raises HeadUnproven."""
    if len(token) > MAX_TOKEN:
        raise HeadUnproven(f"it has {len(token)} characters")
    try:
        envelope = jws.extract_compact(token.encode("ascii"), registry=_registry)
        chain = _certificates(envelope.headers())
        key = chain[0].public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise HeadUnproven("its key is not Ed25519")
        proven = jws.deserialize_compact(token, OKPKey.import_key(key), registry=_registry)
        head = decode_head(proven.payload)
    except HeadUnproven:
        raise
    except (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise HeadUnproven(f"its signature cannot be proven ({type(error).__name__})") from None
    return ProvenHead(head, token, _vouch(chain, roots_pem, trust_domain, head.time_ms))


def read_unproven(token: str) -> Head:
    """What a head says, without its proof. Raises HeadUnproven."""
    try:
        payload = token.split(".")[1]
        return decode_head(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, IndexError):
        raise HeadUnproven("it cannot be read") from None


def _certificates(header: Any) -> list[x509.Certificate]:
    texts = header.get("x5c")
    if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
        raise HeadUnproven("it is no signed head")
    if not isinstance(texts, list) or not 1 <= len(texts) <= _MAX_CHAIN:
        raise HeadUnproven("it names no certificates")
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(text, validate=True)) for text in texts]
    except (ValueError, TypeError, binascii.Error):
        raise HeadUnproven("its certificates cannot be read") from None


def _vouch(chain: list[x509.Certificate], roots_pem: bytes, trust_domain: str, time_ms: int) -> str:
    """The fingerprint of the root that the chain leads to."""
    try:
        roots = x509.load_pem_x509_certificates(roots_pem)
        _check_purpose(chain[0], trust_domain)
        for certificate, issuer in itertools.pairwise(chain):
            _check_issued(certificate, issuer)
        root = next((root for root in roots if _is_issued(chain[-1], root)), None)
    except HeadUnproven:
        raise
    except Exception as error:  # the parser raises more kinds than it documents
        raise HeadUnproven("its certificates cannot be read") from error
    if root is None:
        raise HeadUnproven("no root that is trusted vouches for its key")
    for certificate in (*chain, root):
        begin = certificate.not_valid_before_utc.timestamp() * 1000
        end = certificate.not_valid_after_utc.timestamp() * 1000
        if not begin <= time_ms <= end:
            raise HeadUnproven("its certificates were not valid at the time that it names")
    return root.fingerprint(hashes.SHA256()).hex()


def _check_purpose(certificate: x509.Certificate, trust_domain: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise HeadUnproven("its certificate is not for the audit") from None
    if (
        list(names) != [x509.UniformResourceIdentifier(audit_identity(trust_domain))]
        or list(usages) != [DOCUMENT_SIGNING]
        or constraints.ca
    ):
        raise HeadUnproven("its certificate is not for the audit")


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if not _is_issued(certificate, issuer):
        raise HeadUnproven("its certificates do not belong together")


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
