"""Secrets that must be read again, such as those of second factors, are kept sealed: the store alone does not open them."""

import base64
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
    """What is kept was sealed by another key, for another user, or was changed."""

    def __init__(self, user_id: int) -> None:
        super().__init__(f"the secret of user {user_id} does not open with this Master's key")


class Seal:
    """AES-256-GCM, bound to the user: what was sealed for one opens for nobody else."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """``key``: 32 random bytes."""
        self._cipher = AESGCM(key)

    def seal(self, user_id: int, secret: str) -> str:
        """The secret as the store keeps it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        closed = self._cipher.encrypt(nonce, secret.encode(), _bound(user_id))
        return _MARK + base64.urlsafe_b64encode(nonce + closed).decode()

    def open(self, user_id: int, kept: str) -> str:
        """The secret again. Raises SealBroken."""
        try:
            raw = base64.b64decode(kept.removeprefix(_MARK), altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(user_id)).decode()
        except (ValueError, InvalidTag):
            raise SealBroken(user_id) from None


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


def _bound(user_id: int) -> bytes:
    return f"tenantry second factor of user {user_id}".encode()
