"""Proofs of an earlier sign-in: what a device of a user's keeps, so that strangers cannot use up its attempts.

A proof opens nothing. It is an HMAC over a device's number, the time, and the user as it was, so that the Master keeps nothing
about it, and whatever is changed about the user (a password, a second factor, being disabled) ends all of them.
"""

import base64
import hashlib
import hmac
import secrets
from typing import Final

from tenantry.master.domain.people import User

PREFIX: Final = "tnp_"
LIFETIME_MS: Final = 180 * 86_400_000
_DEVICE_BYTES: Final = 9
_TIME_BYTES: Final = 6
_MAC_BYTES: Final = 18
_TEXT_LENGTH: Final = len(PREFIX) + (_DEVICE_BYTES + _TIME_BYTES + _MAC_BYTES) * 4 // 3


class SignInProofs:
    """Makes proofs and knows them again. Times are Unix milliseconds."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """``key``: the Master's secret of 32 bytes; what proofs are made with is derived from it."""
        self._key = hmac.digest(key, b"tenantry proofs of an earlier sign-in", hashlib.sha256)

    def make(self, user: User, now_ms: int, device: str | None = None) -> str:
        """A proof that this user signs in now; ``device``: which one it was proven to be (`device_of`), or a new one."""
        number = secrets.token_bytes(_DEVICE_BYTES) if device is None else bytes.fromhex(device)
        said = number + now_ms.to_bytes(_TIME_BYTES, "big")
        return PREFIX + base64.urlsafe_b64encode(said + self._mac(user, said)).decode()

    def device_of(self, user: User, proof: str, now_ms: int) -> str | None:
        """The number of the device that brings it; None when it is not a proof of this user as it is now, or too old."""
        if len(proof) != _TEXT_LENGTH or not proof.startswith(PREFIX) or user.disabled_ms is not None:
            return None
        try:
            raw = base64.b64decode(proof.removeprefix(PREFIX), altchars=b"-_", validate=True)
        except ValueError:
            return None
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(user, said)):
            return None
        made_ms = int.from_bytes(said[_DEVICE_BYTES:], "big")
        return said[:_DEVICE_BYTES].hex() if now_ms - made_ms <= LIFETIME_MS else None

    def _mac(self, user: User, said: bytes) -> bytes:
        # Numbers of users may come again after one is erased; the moment of its making does not.
        bound = b"%d/%d/%d/" % (user.id, user.created_ms, user.version)
        return hmac.digest(self._key, bound + said, hashlib.sha256)[:_MAC_BYTES]
