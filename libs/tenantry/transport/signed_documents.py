"""What a Master signs for others to prove: compact JWS (Ed25519) that carry the certificates of their key.

The key's certificate is issued by the Master's authority, so whoever trusts the authority's root can prove a document. Its type says
which kind it is, and the name in the certificate which key may sign it. Imports a certificate library, and no gRPC.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

ALGORITHM: Final = "Ed25519"
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""The extended key usage of the certificate (RFC 9336): neither TLS client nor TLS server."""
MAX_TOKEN: Final = 32 * 1024
_MAX_CHAIN: Final = 3
_MAX_HEADER: Final = 8 * 1024
_MAX_PAYLOAD: Final = 20 * 1024
_CHAINS_KEPT: Final = 8


class DocumentUnproven(ValueError):
    """A document is not what it claims to be; the message says why."""


class _Registry(jws.JWSRegistry):
    """Certificates make the header longer than usual, and a grant can have many targets."""

    max_header_length = _MAX_HEADER
    max_payload_length = _MAX_PAYLOAD


_registry: Final = _Registry(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True)
class Proven:
    """A payload whose signature is proven, and the SHA-256 of the root (DER, hexadecimal) that vouches for its key."""

    payload: bytes
    root: str


@dataclass(frozen=True, slots=True)
class _Chain:
    """Certificates that were proven, but for their time."""

    key: OKPKey
    root: str
    begin_ms: float
    end_ms: float


def sign(payload: bytes, typ: str, key: Ed25519PrivateKey, certificates: Sequence[x509.Certificate]) -> str:
    """A document of the type ``typ``; ``certificates``: the key's own, and its issuer up to the root, without the root."""
    # Said by hand: the library checks and converts its key anew for each document, which takes longer than signing.
    signed = b".".join((_header(typ, tuple(certificates)), _base64url(payload)))
    return b".".join((signed, _base64url(key.sign(signed)))).decode()


@lru_cache(maxsize=_CHAINS_KEPT)
def _header(typ: str, certificates: tuple[x509.Certificate, ...]) -> bytes:
    chain = [base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode() for one in certificates]
    header: dict[str, Any] = {"alg": ALGORITHM, "typ": typ, "x5c": chain}
    return _base64url(json.dumps(header, separators=(",", ":")).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def prove(token: str, typ: str, roots_pem: bytes, identity: str, time_of: Callable[[bytes], int]) -> Proven:
    """Prove a document of the type ``typ`` by roots (PEM) that are trusted; ``identity`` is the name in its key's certificate.

    ``time_of``: the moment, in Unix milliseconds, at which its certificates have to be valid; it is given the payload, and may raise
    ValueError. Raises DocumentUnproven. Certificates that were proven are remembered: the next document costs one signature.
    """
    if len(token) > MAX_TOKEN:
        raise DocumentUnproven(f"it has {len(token)} characters")
    try:
        header = jws.extract_compact(token.encode("ascii"), registry=_registry).headers()
        texts = header.get("x5c")
        if header.get("alg") != ALGORITHM or header.get("typ") != typ:
            raise DocumentUnproven(f"it is no {typ}")
        if not isinstance(texts, list) or not 1 <= len(texts) <= _MAX_CHAIN:
            raise DocumentUnproven("it names no certificates")
        chain = _vouch(tuple(texts), roots_pem, identity)
        proven = jws.deserialize_compact(token, chain.key, registry=_registry)
        time_ms = time_of(proven.payload)
    except DocumentUnproven:
        raise
    except (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise DocumentUnproven(f"its signature cannot be proven ({type(error).__name__})") from None
    if not chain.begin_ms <= time_ms <= chain.end_ms:
        raise DocumentUnproven("its certificates were not valid at the time that it names")
    return Proven(proven.payload, chain.root)


@lru_cache(maxsize=_CHAINS_KEPT)
def _vouch(texts: tuple[str, ...], roots_pem: bytes, identity: str) -> _Chain:
    """The key of the first certificate, once all of them lead to a root. What is not proven is not remembered."""
    try:
        chain = [x509.load_der_x509_certificate(base64.b64decode(text, validate=True)) for text in texts]
    except (ValueError, TypeError, binascii.Error):
        raise DocumentUnproven("its certificates cannot be read") from None
    key = chain[0].public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise DocumentUnproven("its key is not Ed25519")
    try:
        roots = x509.load_pem_x509_certificates(roots_pem)
        _check_purpose(chain[0], identity)
        for certificate, issuer in itertools.pairwise(chain):
            if not _is_issued(certificate, issuer):
                raise DocumentUnproven("its certificates do not belong together")
        root = next((root for root in roots if _is_issued(chain[-1], root)), None)
    except DocumentUnproven:
        raise
    except Exception as error:  # the parser raises more kinds than it documents
        raise DocumentUnproven("its certificates cannot be read") from error
    if root is None:
        raise DocumentUnproven("no root that is trusted vouches for its key")
    path = (*chain, root)
    return _Chain(
        OKPKey.import_key(key),
        root.fingerprint(hashes.SHA256()).hex(),
        max(one.not_valid_before_utc.timestamp() for one in path) * 1000,
        min(one.not_valid_after_utc.timestamp() for one in path) * 1000,
    )


def _check_purpose(certificate: x509.Certificate, identity: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise DocumentUnproven("its certificate is not for this") from None
    if (
        list(names) != [x509.UniformResourceIdentifier(identity)]
        or list(usages) != [DOCUMENT_SIGNING]
        or constraints.ca
    ):
        raise DocumentUnproven("its certificate is not for this")


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
