"""The certificates that Tenants connect with, and which of them count. Times are Unix milliseconds."""

from dataclasses import dataclass
from enum import StrEnum


class CertificateStatus(StrEnum):
    """Where a certificate stands.

    A Tenant has at most one CURRENT. Renewal and enrolment make a NEXT; its first use makes it CURRENT and the one before
    RETIRED. What is REVOKED or RETIRED opens nothing.
    """

    NEXT = "next"
    CURRENT = "current"
    RETIRED = "retired"
    REVOKED = "revoked"


USABLE = frozenset({CertificateStatus.NEXT, CertificateStatus.CURRENT})


@dataclass(frozen=True, slots=True)
class Certificate:
    """One issued certificate. ``serial`` in lower-case hexadecimal, ``authority`` the id of the issuer, ``public_key`` the SHA-256
    of the subject's public key (hexadecimal), ``chain`` the PEM that the daemon got.
    """

    serial: str
    tenant_id: int
    status: CertificateStatus
    authority: str
    public_key: str
    not_before_ms: int
    not_after_ms: int
    issued_ms: int
    chain: str
