"""How operators write where a tunnel leads and what listens on this machine. Pure.

A forward is a target, seen from the Tenant's machine, with what listens for it here in front, as with ``ssh -L`` and
``kubectl port-forward``; IPv6 addresses stand in square brackets::

    PORT                       this port at the Tenant itself, under the same number here
    LOCAL:PORT                 the same under another number
    HOST:PORT                  a machine in the Tenant's network, under the same number here
    LOCAL:HOST:PORT            the same under another number
    ADDRESS:LOCAL:HOST:PORT    the same, reachable at this address of this machine

LOCAL 0 or left out (``:PORT``, ``:HOST:PORT``) is any free port. A number alone is never a host.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.tunnels.targets import Target, make_target

LOOPBACK: Final = "127.0.0.1"
AT_THE_TENANT: Final = "127.0.0.1"
"""The Tenant itself: an address, as policies write it, not a name that may have two of them."""
HIGHEST_PORT: Final = 65_535
_FORWARD_HINT: Final = (
    "Write it like 8080, 8080:80, db.internal:5432, 15432:db.internal:5432 or 127.0.0.1:15432:db.internal:5432,"
    " with IPv6 addresses in square brackets."
)
_LISTEN_HINT: Final = "Write it like 1080, 127.0.0.1:1080 or [::1]:1080."


@dataclass(frozen=True, slots=True)
class Place:
    """An address of this machine, without brackets, and a port; 0 is any that is free."""

    address: str
    port: int

    @property
    def open_to_others(self) -> bool:
        """Whether other machines may reach what listens there."""
        return not ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Forward:
    """What listens here, and where its connections lead."""

    listen: Place
    target: Target


def parse_forward(text: str) -> Forward:
    """A forward as it is typed. Raises InputInvalid."""
    parts = _split(text, "a forward", _FORWARD_HINT)
    words = [word for word, _ in parts]
    match len(parts):
        case 1:
            target = _target(AT_THE_TENANT, words[0], text)
            return Forward(Place(LOOPBACK, target.port), target)
        case 2 if _is_number(parts[0]):
            return Forward(Place(LOOPBACK, _local(words[0], text)), _target(AT_THE_TENANT, words[1], text))
        case 2:
            target = _target(words[0], words[1], text)
            return Forward(Place(LOOPBACK, target.port), target)
        case 3:
            return Forward(Place(LOOPBACK, _local(words[0], text)), _target(words[1], words[2], text))
        case 4:
            listen = Place(_address(words[0], text, _FORWARD_HINT), _local(words[1], text))
            return Forward(listen, _target(words[2], words[3], text))
        case _:
            raise InputInvalid(f"{text!r} is not a forward", _FORWARD_HINT)


def parse_listen(text: str) -> Place:
    """``PORT`` or ``ADDRESS:PORT`` of this machine; port 0 is any that is free. Raises InputInvalid."""
    parts = _split(text, "an address to listen at", _LISTEN_HINT)
    if len(parts) == 1:
        return Place(LOOPBACK, _port(parts[0][0], text, _LISTEN_HINT))
    if len(parts) == 2:
        return Place(_address(parts[0][0], text, _LISTEN_HINT), _port(parts[1][0], text, _LISTEN_HINT))
    raise InputInvalid(f"{text!r} is not an address to listen at", _LISTEN_HINT)


def _split(text: str, what: str, hint: str) -> list[tuple[str, bool]]:
    """The parts between colons outside of brackets, without these; and whether a part had some."""
    parts: list[tuple[str, bool]] = []
    rest = text
    while True:
        if rest.startswith("["):
            inside, bracket, rest = rest[1:].partition("]")
            if not bracket or not inside or (rest and not rest.startswith(":")):
                raise InputInvalid(f"{text!r} is not {what}: its brackets do not match", hint)
            parts.append((inside, True))
            if not rest:
                return parts
            rest = rest[1:]
            continue
        word, colon, rest = rest.partition(":")
        parts.append((word, False))
        if not colon:
            return parts


def _is_number(part: tuple[str, bool]) -> bool:
    word, bracketed = part
    return not bracketed and (not word or _digits(word))


def _digits(word: str) -> bool:
    return word.isascii() and word.isdecimal()


def _local(word: str, text: str) -> int:
    return _port(word, text, _FORWARD_HINT) if word else 0


def _port(word: str, text: str, hint: str, *, lowest: int = 0) -> int:
    if not _digits(word) or len(word) > 5 or not lowest <= int(word) <= HIGHEST_PORT:
        raise InputInvalid(f"{word!r} in {text!r} is not a port", hint)
    return int(word)


def _target(host: str, port: str, text: str) -> Target:
    try:
        return make_target(host, _port(port, text, _FORWARD_HINT, lowest=1))
    except FieldInvalid as invalid:
        raise InputInvalid(f"{text!r} leads nowhere: {invalid.describe()}", _FORWARD_HINT) from None


def _address(word: str, text: str, hint: str) -> str:
    """An address of this machine; `localhost` and `*` (every one, IPv4) are words for some."""
    known = {"localhost": LOOPBACK, "*": "0.0.0.0"}.get(word, word)  # noqa: S104 - only where somebody has spelled it
    try:
        return str(ip_address(known))
    except ValueError:
        raise InputInvalid(f"{word!r} in {text!r} is not an address of this machine", hint) from None
