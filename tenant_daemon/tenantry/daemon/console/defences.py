"""What keeps other sites out: headers of every answer, the names by which the console may be called, and by whose pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tenantry.daemon.domain.loopback import is_loopback_address

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cache-control", "no-store"),
)
"""Of every answer, whatever it is."""


def is_called_on_loopback(headers: Mapping[str, str]) -> bool:
    """Whether ``Host`` is a name that no name server can point here: a loopback address, or ``localhost``, with any port.

    The port is not compared: at the other end of a tunnel it is another one.
    """
    host = headers.get("host", "").lower()
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, ""
    if port and not port.isdecimal():
        return False
    return name == "localhost" or is_loopback_address(name.removeprefix("[").removesuffix("]"))


def is_own_call(headers: Mapping[str, str]) -> bool:
    """Whether the call comes from a page of this console, from the address line of a browser, or from no browser at all."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() == f"http://{headers.get('host', '').lower()}"


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether a page of this console has made the call: browsers say so with every ``POST``, and no other page can."""
    return "origin" in headers and is_own_call(headers)
