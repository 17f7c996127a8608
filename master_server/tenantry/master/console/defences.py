"""What keeps other sites out of a browser's session: headers of every answer, and where calls may come from."""

from collections.abc import Mapping
from typing import Final

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
"""Of every answer, whatever it is."""

NOT_KEPT: Final = (("cache-control", "no-store"),)
"""Of every answer that is not a file named for its content."""


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a page of this console sent the call: browsers say so in headers that no page can set.

    ``Origin`` must be there and name the host that was called, which is the console's own: another name would have failed in TLS.
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    host = headers.get("host", "")
    return bool(host) and headers.get("origin", "").lower() == f"https://{host.lower()}"
