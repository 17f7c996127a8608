"""Grants and tickets of tunnels with their signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

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

_DECODERS: Final[Mapping[str, Callable[[bytes], Grant | Ticket]]] = {
    GRANT_TYPE: decode_grant,
    TICKET_TYPE: decode_ticket,
}


def sign_grant(grant: Grant, key: Ed25519PrivateKey, certificates: Sequence[x509.Certificate]) -> str:
    """The grant as a compact JWS; ``certificates``: the key's own, and its issuer up to the root, without the root."""
    return sign(encode_grant(grant), GRANT_TYPE, key, certificates)


def sign_ticket(ticket: Ticket, key: Ed25519PrivateKey, certificates: Sequence[x509.Certificate]) -> str:
    """The ticket as a compact JWS; ``certificates`` as for `sign_grant`."""
    return sign(encode_ticket(ticket), TICKET_TYPE, key, certificates)


def prove_paper(token: str, typ: str, roots_pem: bytes, trust_domain: str) -> bytes:
    """The payload of a paper of the type ``typ``, once its signature is proven by roots (PEM) that are trusted.

    `decode_grant` or `decode_ticket` takes it. Whether it is for this Tenant, good now and new, `accept_grant` and `accept_ticket` of
    `tenantry.protocol.tunnels` decide. Raises TunnelTicketRefused.
    """
    decode = _DECODERS[typ]
    try:
        return prove(token, typ, roots_pem, tunnels_identity(trust_domain), lambda text: decode(text).issued_ms).payload
    except DocumentUnproven as error:
        raise TunnelTicketRefused(cause=str(error)) from None
