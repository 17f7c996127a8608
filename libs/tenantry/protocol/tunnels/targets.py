"""Where connections lead, in the one spelling that every program compares.

An address has many spellings (decimal, octal, hexadecimal, short forms, capitals), and resolvers take most of them. Here each has one,
and whatever is no canonical address and could be taken for one is refused: a rule about addresses cannot be walked around by writing
one differently.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from tenantry.protocol.failures import FieldInvalid

CONSOLE: Final = "console"
"""The word for the daemon's local console, whose port the Tenant knows."""
MAX_HOST: Final = 253
MAX_TARGETS: Final = 32
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")
_CONSOLE_PATH = re.compile(r"/[A-Za-z0-9#=_-]{0,499}")
_EXPECTED = "a DNS name, an IPv4 address with four decimal numbers, or an IPv6 address without a zone"


def check_console_path(path: str) -> str:
    """What a Tenant says behind its local console's address; it ends up in the operator's browser. Raises FieldInvalid.

    Nothing with which another host could be named is in it, wherever it is put behind a host and a port.
    """
    if path and not _CONSOLE_PATH.fullmatch(path):
        expected = "empty, or a slash with letters, digits and # = _ - behind it, at most 500 characters"
        raise FieldInvalid(field="console_path", problem="is no path of a local console", expected=expected)
    return path


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """Where a connection leads, seen from the Tenant's machine. Port 0 with the word ``console`` alone.

    Made by `make_target` or `parse_target`, which bring ``host`` into its canonical spelling.
    """

    host: str
    port: int

    @property
    def is_console(self) -> bool:
        """Whether it is the daemon's local console."""
        return self.host == CONSOLE and self.port == 0

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address that the host is; None for a name and for the console."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        if self.is_console:
            return CONSOLE
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def make_target(host: str, port: int, field: str = "target") -> Target:
    """A target with its host in canonical spelling: lower case, no brackets, no dot at the end. Raises FieldInvalid."""
    if host == CONSOLE and port == 0:
        return Target(CONSOLE, 0)
    if not 1 <= port <= 65_535:
        raise FieldInvalid(field=f"{field}.port", problem=f"is {port}", expected="1 to 65535, or 0 with `console`")
    return Target(check_host(host, f"{field}.host"), port)


def parse_target(text: str, field: str = "target") -> Target:
    """A target from ``HOST:PORT``, ``[IPV6]:PORT`` or ``console``. Raises FieldInvalid."""
    if text == CONSOLE:
        return Target(CONSOLE, 0)
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not _PORT.fullmatch(port) or (":" in host and not bracketed):
        raise FieldInvalid(
            field=field, problem="cannot be read", expected="HOST:PORT, [IPV6 ADDRESS]:PORT or `console`"
        )
    if bracketed and ":" not in host:
        raise FieldInvalid(field=field, problem="has brackets around what is no IPv6 address", expected=_EXPECTED)
    return make_target(host[1:-1] if bracketed else host, int(port), field)


def check_host(host: str, field: str = "host") -> str:
    """A host in canonical spelling. Raises FieldInvalid, also for every other spelling of an address."""
    if not host.isascii() or not host.isprintable() or not 1 <= len(host) <= MAX_HOST + 1:
        raise FieldInvalid(field=field, problem="holds what a host cannot", expected=_EXPECTED)
    lower = host.lower()
    if ":" in lower:
        return _check_ipv6(lower, field)
    name = lower.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # What ends in a number is an address for resolvers, in whichever base and with however many parts.
        try:
            return str(ipaddress.IPv4Address(lower))
        except ValueError:
            raise FieldInvalid(field=field, problem="is another spelling of an address", expected=_EXPECTED) from None
    if len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise FieldInvalid(field=field, problem="is no name", expected=_EXPECTED)
    return name


def _check_ipv6(host: str, field: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise FieldInvalid(field=field, problem="is no IPv6 address", expected=_EXPECTED) from None
    if address.scope_id is not None:
        raise FieldInvalid(field=field, problem="has a zone", expected=_EXPECTED)
    return str(address)
