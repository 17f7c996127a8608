"""Places that callers hand back, such as cursors and page tokens, say nothing to them: numbers of rows would tell what others do."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid

LONGEST: Final = 4_096
_NONCE_BYTES: Final = 4
_SAME: Final = bytes(_NONCE_BYTES)
_BLOCK: Final = 64
_CURSOR, _PAGE = b"cursor", b"page"


class Veil:
    """Covers cursors and page tokens (base64url, without padding), and takes the cover off again.

    AES-SIV: who alters one has none.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """``key``: the Master's secret of 32 bytes; what covers is derived from it."""
        self._cipher = AESSIV(hmac.digest(key, b"tenantry places in listings and streams", hashlib.sha256))

    def cover_cursor(self, cursor: str, *, fresh: bool = False) -> str:
        """A place in a stream as callers see it. The same place looks the same each time, unless it is covered ``fresh``: then
        nobody can tell whether it has moved.
        """
        return self._cover(_CURSOR, _octets(cursor), secrets.token_bytes(_NONCE_BYTES) if fresh else _SAME)

    def uncover_cursor(self, covered: str) -> str:
        """The inverse; an empty one stays empty. Raises FieldInvalid."""
        try:
            return _text(self._uncover(_CURSOR, covered)) if covered else ""
        except ValueError:
            raise FieldInvalid(
                field="after_cursor", problem="is not a cursor of this stream", expected="what a record of it carried"
            ) from None

    def cover_page_token(self, token: str) -> str:
        """A page token as callers see it, which is as long whatever the numbers in it; an empty one stays empty."""
        if not token:
            return ""
        raw = _octets(token)
        filling = _BLOCK - (len(raw) + 1) % _BLOCK
        return self._cover(_PAGE, raw + bytes(filling) + bytes([filling]), _SAME)

    def uncover_page_token(self, covered: str) -> str:
        """The inverse. Raises PageTokenInvalid."""
        try:
            raw = self._uncover(_PAGE, covered) if covered else b""
        except ValueError:
            raise PageTokenInvalid from None
        return _text(raw[: -1 - raw[-1]]) if raw else ""

    def _cover(self, kind: bytes, raw: bytes, nonce: bytes) -> str:
        return _text(nonce + self._cipher.encrypt(raw, [kind, nonce]))

    def _uncover(self, kind: bytes, covered: str) -> bytes:
        sealed = _octets(covered)
        if _text(sealed) != covered:
            raise ValueError("not in the one form that is written")
        try:
            return self._cipher.decrypt(sealed[_NONCE_BYTES:], [kind, sealed[:_NONCE_BYTES]])
        except InvalidTag:
            raise ValueError("not covered here") from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _octets(text: str) -> bytes:
    if len(text) > LONGEST:
        raise ValueError("too long")
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
