"""Page sizes and page tokens: where the next page begins, bound to the listing that it belongs to."""

import base64
import hashlib
import json

from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid

Key = tuple[str | int, ...]


def page_size(asked: int, *, default: int, largest: int) -> int:
    """The size of a page: the default for 0, at most ``largest``. Raises FieldInvalid for a negative one."""
    if asked < 0:
        raise FieldInvalid(field="page_size", problem=f"is {asked}", expected=f"0 to {largest}")
    return min(asked, largest) or default


def encode_page_token(listing: object, key: Key) -> str:
    """A token for the page after ``key``. ``listing`` is everything that must stay the same from page to page."""
    text = json.dumps([_fingerprint(listing, key), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_page_token(listing: object, token: str) -> Key | None:
    """The key in a token; None for an empty one. Raises PageTokenInvalid for garbage and for another listing's token."""
    if not token:
        return None
    try:
        fingerprint, *key = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        if fingerprint == _fingerprint(listing, tuple(key)):
            return tuple(key)
    except (ValueError, TypeError):
        pass
    raise PageTokenInvalid


def _fingerprint(listing: object, key: Key) -> str:
    return hashlib.sha256(repr((listing, key)).encode()).hexdigest()[:16]
