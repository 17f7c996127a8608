"""The key that signs heads of the audit chain, and who proves them."""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.signing_keys import VouchedKey, load_signing_key
from tenantry.protocol.audit_chain import Head
from tenantry.transport.signed_heads import audit_identity, sign_head, verify_head

FOLDER: Final = "audit"


def load_audit_key(pki: Path) -> Ed25519PrivateKey:
    """The key in the Master's ``pki`` folder. As `load_signing_key`."""
    return load_signing_key(pki, FOLDER)


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


class AuditSigner:
    """Signs heads in the name of whichever authority issues."""

    def __init__(self, key: Ed25519PrivateKey, trust_domain: str) -> None:
        self._vouched = VouchedKey(key, audit_identity(trust_domain), "Tenantry Master audit")

    def sign(self, head: Head, authority: Authority) -> str:
        """The head as a compact JWS. Raises ValueError outside of the intermediate's validity."""
        return sign_head(head, self._vouched.key, self._vouched.certificates(authority, head.time_ms))
