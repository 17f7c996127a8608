"""The key that signs grants and tickets of tunnels."""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.master.pki.authority import Authority
from tenantry.master.pki.signing_keys import VouchedKey, load_signing_key
from tenantry.protocol.tunnels.papers import Grant, Ticket, tunnels_identity
from tenantry.transport.signed_tunnels import sign_grant, sign_ticket

FOLDER: Final = "tunnels"


def load_tunnel_key(pki: Path) -> Ed25519PrivateKey:
    """The key in the Master's ``pki`` folder. As `load_signing_key`."""
    return load_signing_key(pki, FOLDER)


class TunnelSigner:
    """Signs for tunnels in the name of whichever authority issues."""

    def __init__(self, key: Ed25519PrivateKey, trust_domain: str) -> None:
        self._vouched = VouchedKey(key, tunnels_identity(trust_domain), "Tenantry Master tunnels")

    def sign_grant(self, grant: Grant, authority: Authority) -> str:
        """The grant as a compact JWS. Raises ValueError outside of the intermediate's validity."""
        return sign_grant(grant, self._vouched.key, self._vouched.certificates(authority, grant.issued_ms))

    def sign_ticket(self, ticket: Ticket, authority: Authority) -> str:
        """The ticket as a compact JWS. Raises ValueError outside of the intermediate's validity."""
        return sign_ticket(ticket, self._vouched.key, self._vouched.certificates(authority, ticket.issued_ms))
