"""Names, ids and texts that cross the wire: what is allowed, and how identities are written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from tenantry.protocol.failures import FieldInvalid, PeerCertificateInvalid

MAX_NAME = 120
MAX_DESCRIPTION = 2_000
MAX_REASON = 500
MAX_TAGS = 32
MAX_TAG = 64
MAX_RECIPIENTS = 32

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_MACHINE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DOMAIN = re.compile(r"(?=.{1,200}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_MAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\]{1,255}")
# Characters that look like nothing or turn the text around them (Unicode Cf) are as dangerous in a terminal or a log as
# control characters (Cc); lone surrogates (Cs) and line separators (Zl, Zp) break encoders and one-record-one-line logs.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def first_forbidden(text: str, allowed: str = "") -> str | None:
    """The first character that no text may hold, written as ``U+0007``; None when there is none."""
    if text.isascii() and text.isprintable():
        return None
    for character in text:
        if character not in allowed and unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            return f"U+{ord(character):04X}"
    return None


def check_name(value: str, field: str) -> str:
    """A name in Unicode normal form C, without surrounding space. Raises FieldInvalid."""
    expected = f"1 to {MAX_NAME} printable characters"
    name = unicodedata.normalize("NFC", value).strip()
    if not name:
        raise FieldInvalid(field=field, problem="is empty", expected=expected)
    if len(name) > MAX_NAME:
        raise FieldInvalid(field=field, problem=f"has {len(name)} characters", expected=expected)
    forbidden = first_forbidden(name)
    if forbidden:
        raise FieldInvalid(field=field, problem=f"holds the character {forbidden}", expected=expected)
    return name


def check_text(value: str, field: str, limit: int, *, lines: bool = False) -> str:
    """Free text of at most ``limit`` characters, with line breaks and tabs only when ``lines``. Raises FieldInvalid."""
    expected = f"at most {limit} printable characters"
    if len(value) > limit:
        raise FieldInvalid(field=field, problem=f"has {len(value)} characters", expected=expected)
    forbidden = first_forbidden(value, allowed="\n\t" if lines else "")
    if forbidden:
        raise FieldInvalid(field=field, problem=f"holds the character {forbidden}", expected=expected)
    return unicodedata.normalize("NFC", value)


def tidy_text(value: str, limit: int) -> str:
    """Text that a machine gives as an explanation, made harmless: cut to ``limit`` characters, forbidden ones shown as U+FFFD.

    For what must not be refused, because whoever sent it would send the same again for ever.
    """
    shown = "".join("\ufffd" if first_forbidden(character) else character for character in value[:limit])
    return unicodedata.normalize("NFC", shown)[:limit]


def check_guid(value: str, field: str = "guid") -> str:
    """A version 4 UUID in lower case. Raises FieldInvalid."""
    if not _GUID.fullmatch(value):
        raise FieldInvalid(field=field, problem="is not a GUID", expected="a lower-case UUID (version 4)")
    return value


def check_tags(values: Iterable[str]) -> tuple[str, ...]:
    """Distinct tags in the order given. Raises FieldInvalid."""
    tags = tuple(dict.fromkeys(check_text(value.strip(), "tags", MAX_TAG) for value in values))
    if len(tags) > MAX_TAGS or "" in tags:
        raise FieldInvalid(
            field="tags",
            problem=f"has {len(tags)} entries, or an empty one",
            expected=f"at most {MAX_TAGS} words that are not empty",
        )
    return tags


def check_recipients(values: Sequence[str]) -> tuple[str, ...]:
    """Mail addresses, distinct, in the order given. Raises FieldInvalid."""
    addresses = tuple(dict.fromkeys(value.strip() for value in values))
    if len(addresses) > MAX_RECIPIENTS:
        raise FieldInvalid(
            field="recipients", problem=f"has {len(addresses)} entries", expected=f"at most {MAX_RECIPIENTS}"
        )
    for address in addresses:
        check_mail(address, "recipients")
    return addresses


def check_mail(value: str, field: str) -> str:
    """A mail address. Raises FieldInvalid."""
    if not _MAIL.fullmatch(value) or first_forbidden(value):
        raise FieldInvalid(field=field, problem="holds no mail address", expected="name@host")
    return value


def check_trust_domain(value: str, field: str = "trust_domain") -> str:
    """A trust domain: lower-case DNS labels. Raises FieldInvalid."""
    if not _DOMAIN.fullmatch(value):
        raise FieldInvalid(field=field, problem="is not a trust domain", expected="lower-case DNS labels")
    return value


def tenant_identity(trust_domain: str, guid: str) -> str:
    """The SPIFFE id in a Tenant's certificate."""
    return f"spiffe://{trust_domain}/tenant/{guid}"


def machine_identity(trust_domain: str, name: str) -> str:
    """The SPIFFE id in the certificate of a machine's user."""
    return f"spiffe://{trust_domain}/user/{name}"


def master_identity(trust_domain: str) -> str:
    """The SPIFFE id in a Master's certificate."""
    return f"spiffe://{trust_domain}/master"


def listener_name(listener: str, trust_domain: str) -> str:
    """The DNS name by which clients verify a listener (``api``, ``link``, …), whatever address they dial."""
    return f"{listener}.{trust_domain}"


def parse_tenant_identity(identity: str, trust_domain: str) -> str:
    """The GUID in a Tenant's SPIFFE id. Raises PeerCertificateInvalid unless it is exactly one of this domain's."""
    prefix = f"spiffe://{trust_domain}/tenant/"
    guid = identity[len(prefix) :]
    if not identity.startswith(prefix) or not _GUID.fullmatch(guid):
        raise PeerCertificateInvalid(cause="its identity is not that of a Tenant of this Master")
    return guid


def parse_machine_identity(identity: str, trust_domain: str) -> str:
    """The user's name in a machine's SPIFFE id. Raises PeerCertificateInvalid unless it is exactly one of this domain's."""
    prefix = machine_identity(trust_domain, "")
    name = identity[len(prefix) :]
    if not identity.startswith(prefix) or not _MACHINE.fullmatch(name):
        raise PeerCertificateInvalid(cause="its identity is not that of a machine's user of this Master")
    return name
