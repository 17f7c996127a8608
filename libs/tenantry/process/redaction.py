"""Removes secrets from what is about to be written where people read: log records, exception texts, tracebacks.

Two nets: fields whose *name* says that they hold a secret, and *values* that look like one of our secrets wherever they
stand. Both err on the side of removing too much. The work is bounded whatever the text, because texts come from
strangers.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

REDACTED: Final = "[redacted]"
_TEXT_LIMIT: Final = 32_768
_READ_LIMIT: Final = 2 * _TEXT_LIMIT
_ITEM_LIMIT: Final = 1_000
_DEPTH_LIMIT: Final = 6

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")
_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pwd|secret|token|authorization|cookie|credentials?|dsn"
    r"|(?:private|registration|enrolment|enrollment|signing|api|access|secret|client|server|root|session)_key"
    r"|join_string|key_pem)s?(?:_(?:value|text|bytes|plain|hash|hex|base64|pem))?$|^key$"
)
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_ACCESS: Final = re.compile(r"(tn[ka])_[A-Za-z0-9_-]{8,}")
_JOINING: Final = re.compile(r"(tenantry-join:)[^\s\"'<>]+", re.IGNORECASE)
_BEARER: Final = re.compile(r"\b(bearer) +[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_ASSIGNMENT: Final = re.compile(
    r"((?:password|passwd|passphrase|secret)=)(?:'(?:[^'\\]|\\.){0,512}'|\"(?:[^\"\\]|\\.){0,512}\"|[^\s&,;\"']+)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\S+")


def names_secret(name: str) -> bool:
    """Whether a field of this name is taken to hold a secret, in any of the usual spellings (`apiKey`, `API-KEY`)."""
    words = _NOT_WORD.sub("_", _WORD_START.sub("_", name).lower()).strip("_")
    return _SECRET_NAME.search(words) is not None


def redact_text(text: str) -> str:
    """Return `text` without private keys in PEM, our keys and tokens, join strings and passwords in DSNs.

    What is longer than 32,768 characters is cut, visibly.
    """
    length = len(text)
    if length > _READ_LIMIT:
        # The last word goes as well: cut in two, a secret would no longer be recognised.
        text = text[:_READ_LIMIT].rsplit(maxsplit=1)[0] if _WORD.search(text) else ""
    text = _PRIVATE_KEY.sub(REDACTED, text)
    text = _JOINING.sub(rf"\1{REDACTED}", text)
    text = _ACCESS.sub(rf"\1_{REDACTED}", text)
    text = _BEARER.sub(rf"\1 {REDACTED}", text)
    text = _ASSIGNMENT.sub(rf"\1{REDACTED}", text)
    if "://" in text and "@" in text:
        text = _WORD.sub(_without_password, text)
    if length > _READ_LIMIT or len(text) > _TEXT_LIMIT:
        return f"{text[:_TEXT_LIMIT]}… (cut, {length} characters)"
    return text


def redact_value(value: object) -> object:
    """Return `value` as plain data (numbers, text, lists, dictionaries with text keys) without secrets.

    Objects become their redacted repr, bytes their redacted text. What is deeper than 6 levels, longer than 1,000
    items or 32,768 characters is cut, visibly.
    """
    return _plain(value, _DEPTH_LIMIT)


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if type(value) in (int, float):
        return value
    if isinstance(value, str):
        return redact_text(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return redact_text(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping | list | tuple | AbstractSet):
        if depth == 0:
            return "…"
        if isinstance(value, Mapping):
            return redact_fields(value, depth - 1)
        items = [_plain(item, depth - 1) for item, _ in zip(value, range(_ITEM_LIMIT), strict=False)]
        return [*items, "…"] if len(value) > _ITEM_LIMIT else items
    return redact_text(_described(value))


def redact_fields(fields: Mapping[object, object], depth: int = _DEPTH_LIMIT) -> dict[str, object]:
    """Return the fields with secret ones replaced by a marker and all other values as redact_value gives them."""
    plain: dict[str, object] = {}
    for key, value in fields.items():
        if len(plain) == _ITEM_LIMIT:
            plain["…"] = len(fields) - _ITEM_LIMIT
            break
        name = str(key)
        secret = names_secret(name) and value is not None and not isinstance(value, bool)
        plain[redact_text(name)] = REDACTED if secret else _plain(value, depth)
    return plain


def _described(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # noqa: BLE001 - a log record must not fail because of what it describes
        return f"<{type(value).__name__} that cannot be described: {type(error).__name__}>"


def _without_password(word: re.Match[str]) -> str:
    text = word[0]
    scheme = text.find("://")
    at = text.rfind("@")
    if scheme < 0 or at < scheme:
        return text
    colon = text.find(":", scheme + 3, at)
    return text if colon < 0 else text[: colon + 1] + REDACTED + text[at:]
