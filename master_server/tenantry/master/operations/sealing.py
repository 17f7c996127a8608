"""Secrets that must be read again, of second factors and of receivers, are kept sealed: the store alone does not open them."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenantry.process.files import private_directory, read_private, write_private

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_MARK: Final = "s1."


class SealBroken(Exception):
    """What is kept was sealed by another key, for something else, or was changed."""

    def __init__(self, about: str) -> None:
        super().__init__(f"the secret ({about}) does not open with this Master's key")


class Seal:
    """AES-256-GCM, bound to what the secret is about: what was sealed for one thing opens for no other."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """``key``: 32 random bytes."""
        self._cipher = AESGCM(key)

    def seal(self, about: str, secret: str) -> str:
        """The secret as the store keeps it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        closed = self._cipher.encrypt(nonce, secret.encode(), about.encode())
        return _MARK + base64.urlsafe_b64encode(nonce + closed).decode()

    def open(self, about: str, kept: str) -> str:
        """The secret again. Raises SealBroken."""
        try:
            raw = base64.b64decode(kept.removeprefix(_MARK), altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], about.encode()).decode()
        except (ValueError, InvalidTag):
            raise SealBroken(about) from None


def load_seal(path: Path) -> Seal:
    """The seal whose key is in this private file (`load_key`). Raises OSError, FileExposed, ValueError."""
    return Seal(load_key(path))


def load_key(path: Path) -> bytes:
    """The Master's secret in this private file, which is made where there is none. Raises OSError, FileExposed."""
    try:
        return read_private(path)
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        private_directory(path.parent)
        write_private(path, key)
        return key


def second_factor_of(user_id: int) -> str:
    """What the secret of a user's second factor is about."""
    return f"tenantry second factor of user {user_id}"


def receivers_seal(key: bytes) -> Seal:
    """The seal of receivers' secrets, whose key is derived from the Master's secret of 32 bytes."""
    return Seal(hmac.digest(key, b"tenantry secrets of receivers", hashlib.sha256))


def receiver_secret(receiver_uid: str, name: str, destination: str) -> str:
    """What a receiver's secret is about: it opens for this receiver alone, and only while that sends it to the same place."""
    return f"tenantry receiver {receiver_uid} {name} {destination}"
