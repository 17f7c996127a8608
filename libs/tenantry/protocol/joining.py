"""Enrolment keys, administrator tokens and the join string.

A key is ``tnk_<8 hex: its id>_<43 base64url: 256 random bits>``; a token is the same with ``tna``. Only SHA-256 of the
whole text is stored: with 256 random bits a slow hash would protect nothing, and would be a way to exhaust the Master.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field

from tenantry.protocol.failures import FieldInvalid, JoinStringInvalid
from tenantry.protocol.names import check_guid, check_trust_domain

KEY_PREFIX = "tnk"
TOKEN_PREFIX = "tna"  # noqa: S105 - the visible mark of a token, not a token
JOIN_PREFIX = "tenantry-join:"
SECRET_BYTES = 32
ID_BYTES = 4
DEFAULT_API_PORT = 7443
DEFAULT_JOIN_PORT = 443

_SECRET = re.compile(r"(tn[ka])_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Secret:
    """An enrolment key or a token: text to show once, id to find it by, hash to keep."""

    id: str
    text: str = field(repr=False)

    @property
    def hash(self) -> str:
        """SHA-256 of the text, lower-case hexadecimal."""
        return hash_secret(self.text)


def hash_secret(text: str) -> str:
    """SHA-256 of a key or token, lower-case hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_secret(prefix: str, random: bytes) -> Secret:
    """A key or token from ``ID_BYTES + SECRET_BYTES`` random bytes."""
    if len(random) != ID_BYTES + SECRET_BYTES:
        raise ValueError(f"{ID_BYTES + SECRET_BYTES} random bytes are needed, not {len(random)}")
    identifier = random[:ID_BYTES].hex()
    body = base64.urlsafe_b64encode(random[ID_BYTES:]).rstrip(b"=").decode()
    return Secret(identifier, f"{prefix}_{identifier}_{body}")


def parse_secret(text: str, prefix: str) -> Secret | None:
    """The key or token in ``text``; None when it has not the form of one."""
    match = _SECRET.fullmatch(text)
    if match is None or match.group(1) != prefix:
        return None
    return Secret(match.group(2), text)


@dataclass(frozen=True, slots=True)
class JoinTicket:
    """All that a Tenant needs to join."""

    guid: str
    key: str = field(repr=False)
    host: str
    port: int
    ca_fingerprint: str
    trust_domain: str


def check_fingerprint(value: str, field_name: str = "ca_fingerprint") -> str:
    """A SHA-256 in lower-case hexadecimal; colons and capitals are forgiven. Raises FieldInvalid."""
    fingerprint = value.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise FieldInvalid(field=field_name, problem="is not a SHA-256", expected="64 hexadecimal digits")
    return fingerprint


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[v6]:port`` as a pair. Raises FieldInvalid."""
    problem = FieldInvalid(field="address", problem="is not an address", expected="host:port")
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")):
            raise problem
    elif address.count(":") > 1:
        host, port = address, ""
    else:
        host, _, port = address.partition(":")
    if not host or re.search(r"[\s/@\[\]]", host) or (port and not port.isdecimal()):
        raise problem
    number = int(port) if port else default_port
    if not 1 <= number <= 65535:
        raise problem
    return host, number


def join_address(host: str, port: int) -> str:
    """The pair as one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def encode_join_string(ticket: JoinTicket) -> str:
    """One line for a person to copy. Secret: it holds the key."""
    payload = json.dumps(
        [1, ticket.guid, ticket.key, ticket.host, ticket.port, ticket.ca_fingerprint, ticket.trust_domain],
        separators=(",", ":"),
    ).encode()
    checked = payload + hashlib.sha256(payload).digest()[:4]
    return JOIN_PREFIX + base64.urlsafe_b64encode(checked).rstrip(b"=").decode()


def decode_join_string(text: str) -> JoinTicket:
    """The ticket in a join string; white space around and inside (from a wrapped mail) is forgiven.

    Raises JoinStringInvalid; never with the text in it.
    """
    compact = "".join(text.split())
    if not compact.startswith(JOIN_PREFIX):
        raise JoinStringInvalid(problem=f"it does not start with {JOIN_PREFIX}")
    body = compact[len(JOIN_PREFIX) :]
    try:
        checked = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise JoinStringInvalid(problem="it holds characters that do not belong there") from None
    payload, checksum = checked[:-4], checked[-4:]
    if hashlib.sha256(payload).digest()[:4] != checksum:
        raise JoinStringInvalid(problem="its checksum is wrong; a part is missing or changed")
    try:
        version, guid, key, host, port, fingerprint, trust_domain = json.loads(payload)
        if version != 1:
            raise JoinStringInvalid(problem=f"it has version {version}; this program knows version 1")
        if not isinstance(port, int) or not isinstance(host, str) or parse_secret(key, KEY_PREFIX) is None:
            raise JoinStringInvalid(problem="a part of it has the wrong form")
        split_address(join_address(host, port), port)
        return JoinTicket(
            check_guid(guid), key, host, port, check_fingerprint(fingerprint), check_trust_domain(trust_domain)
        )
    except (ValueError, TypeError, FieldInvalid):
        raise JoinStringInvalid(problem="a part of it has the wrong form") from None
