"""Heads of the audit chain with their signature.

Whoever trusts the authority's root can verify a head, years later too: certificates are judged at the moment that the head names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.protocol.audit_chain import Head, decode_head, encode_head
from tenantry.protocol.names import master_identity
from tenantry.transport.signed_documents import DocumentUnproven, prove, sign

TYPE: Final = "tenantry-audit-head"
MAX_TOKEN: Final = 16 * 1024


class HeadUnproven(ValueError):
    """A head is not what it claims to be; the message says why."""


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
    return sign(encode_head(head), TYPE, key, certificates)


def verify_head(token: str, roots_pem: bytes, trust_domain: str) -> ProvenHead:
    """Prove a head by roots (PEM) that are trusted. Raises HeadUnproven."""
    if len(token) > MAX_TOKEN:
        raise HeadUnproven(f"it has {len(token)} characters")
    try:
        proven = prove(token, TYPE, roots_pem, audit_identity(trust_domain), lambda text: decode_head(text).time_ms)
    except DocumentUnproven as error:
        raise HeadUnproven(str(error)) from None
    return ProvenHead(decode_head(proven.payload), token, proven.root)
