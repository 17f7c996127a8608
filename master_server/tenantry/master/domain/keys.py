"""Enrolment keys as they are kept: never the secret, only its hash. Times are Unix milliseconds."""

from dataclasses import dataclass

from tenantry.protocol.failures import FieldInvalid

DEFAULT_KEY_LIFETIME_MS = 30 * 60_000
MIN_KEY_LIFETIME_MS = 60_000
MAX_KEY_LIFETIME_MS = 24 * 3_600_000
REPLY_GRACE_MS = 10 * 60_000
"""How long the same key with the same CSR key gets the same certificate again, for replies that were lost."""


@dataclass(frozen=True, slots=True)
class EnrolmentKey:
    """An enrolment key; ``public_key`` is the SHA-256 of the CSR's public key that used it (hexadecimal)."""

    id: str
    hash: str
    tenant_id: int
    created_ms: int
    expires_ms: int
    created_by: str
    used_ms: int | None = None
    public_key: str | None = None


def check_key_lifetime(lifetime_ms: int) -> int:
    """The lifetime of a new key. Raises FieldInvalid."""
    if not MIN_KEY_LIFETIME_MS <= lifetime_ms <= MAX_KEY_LIFETIME_MS:
        raise FieldInvalid(field="key_lifetime", problem=f"is {lifetime_ms / 1000:g} s", expected="1 min to 24 h")
    return lifetime_ms
