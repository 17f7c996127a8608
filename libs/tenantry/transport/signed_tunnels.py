"""Grants and tickets of tunnels with their signature."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.tunnels.papers import (
    GRANT_TYPE,
    TICKET_TYPE,
    Grant,
    Ticket,
    decode_grant,
    decode_ticket,
    encode_grant,
    encode_ticket,
    tunnels_identity,
)
from tenantry.transport.signed_documents import DocumentUnproven, prove, sign


def sign_grant(grant: Grant, key: Ed25519PrivateKey, certificates: Sequence[x509.Certificate]) -> str:
    """The grant as a compact JWS; ``certificates``: the key's own, and its issuer up to the root, without the root."""
    return sign(encode_grant(grant), GRANT_TYPE, key, certificates)


def sign_ticket(ticket: Ticket, key: Ed25519PrivateKey, certificates: Sequence[x509.Certificate]) -> str:
    """The ticket as a compact JWS; ``certificates`` as for `sign_grant`."""
    return sign(encode_ticket(ticket), TICKET_TYPE, key, certificates)


def prove_grant(token: str, roots_pem: bytes, trust_domain: str) -> Grant:
    """What a grant says, once its signature is proven by roots (PEM) that are trusted. Raises TunnelTicketRefused.

    Whether it is for this Tenant, good now and new, `tenantry.protocol.tunnels.accept_grant` decides.
    """
    return decode_grant(_prove(token, GRANT_TYPE, roots_pem, trust_domain))


def prove_ticket(token: str, roots_pem: bytes, trust_domain: str) -> Ticket:
    """What a ticket says, once its signature is proven by roots (PEM) that are trusted. Raises TunnelTicketRefused.

    Whether it is for this Tenant and this tunnel, good now and new, `tenantry.protocol.tunnels.accept_ticket` decides.
    """
    return decode_ticket(_prove(token, TICKET_TYPE, roots_pem, trust_domain))


def _prove(token: str, typ: str, roots_pem: bytes, trust_domain: str) -> bytes:
    decode = decode_grant if typ == GRANT_TYPE else decode_ticket
    try:
        return prove(token, typ, roots_pem, tunnels_identity(trust_domain), lambda text: decode(text).issued_ms).payload
    except DocumentUnproven as error:
        raise TunnelTicketRefused(cause=str(error)) from None
