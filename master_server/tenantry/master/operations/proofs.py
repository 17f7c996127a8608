"""What the Master hands to a user and knows again, without keeping anything about it: HMACs over a number, the time, and the user as
it was. None of them opens anything, and whatever is changed about the user (a password, a second factor, being disabled) ends all.

A proof of an earlier sign-in is kept by a device, so that strangers cannot use up its attempts. An introduction is given by a user to
whoever is to know of this user.
"""

import base64
import hashlib
import hmac
import secrets
from typing import Final

from tenantry.master.domain.people import User

PROOF_PREFIX: Final = "tnp_"
PROOF_LIFETIME_MS: Final = 180 * 86_400_000
INTRODUCTION_PREFIX: Final = "tni_"
INTRODUCTION_LIFETIME_MS: Final = 3 * 86_400_000
_DEVICE_BYTES: Final = 9
_TIME_BYTES: Final = 6
_MAC_BYTES: Final = 18
_LENGTH: Final = (_DEVICE_BYTES + _TIME_BYTES + _MAC_BYTES) * 4 // 3


class UserProofs:
    """Makes proofs of one kind and knows them again. Times are Unix milliseconds."""

    __slots__ = ("_key", "_prefix", "lifetime_ms")

    def __init__(self, key: bytes, purpose: bytes, prefix: str, lifetime_ms: int) -> None:
        """``key``: the Master's secret of 32 bytes; what proofs of this purpose are made with is derived from it."""
        self._key = hmac.digest(key, b"tenantry " + purpose, hashlib.sha256)
        self._prefix = prefix
        self.lifetime_ms = lifetime_ms

    def make(self, user: User, now_ms: int, device: str | None = None) -> str:
        """A proof of this user at this time; ``device``: the number that it was known by before (`device_of`), or a new one."""
        number = secrets.token_bytes(_DEVICE_BYTES) if device is None else bytes.fromhex(device)
        said = number + now_ms.to_bytes(_TIME_BYTES, "big")
        return self._prefix + base64.urlsafe_b64encode(said + self._mac(user, said)).decode()

    def device_of(self, user: User, proof: str, now_ms: int) -> str | None:
        """The number in it; None when it is not a proof of this kind of this user as it is now, or too old."""
        body = proof.removeprefix(self._prefix)
        if body == proof or len(body) != _LENGTH or user.disabled_ms is not None:
            return None
        try:
            raw = base64.b64decode(body, altchars=b"-_", validate=True)
        except ValueError:
            return None
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(user, said)):
            return None
        made_ms = int.from_bytes(said[_DEVICE_BYTES:], "big")
        return said[:_DEVICE_BYTES].hex() if now_ms - made_ms <= self.lifetime_ms else None

    def _mac(self, user: User, said: bytes) -> bytes:
        # Numbers of users may come again after one is erased; the moment of its making does not.
        bound = b"%d/%d/%d/" % (user.id, user.created_ms, user.version)
        return hmac.digest(self._key, bound + said, hashlib.sha256)[:_MAC_BYTES]


def sign_in_proofs(key: bytes) -> UserProofs:
    """Proofs of an earlier sign-in."""
    return UserProofs(key, b"proofs of an earlier sign-in", PROOF_PREFIX, PROOF_LIFETIME_MS)


def introductions(key: bytes) -> UserProofs:
    """Introductions of users by themselves."""
    return UserProofs(key, b"introductions", INTRODUCTION_PREFIX, INTRODUCTION_LIFETIME_MS)
