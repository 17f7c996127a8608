"""Which addresses reach this machine alone."""

from __future__ import annotations

import ipaddress


def is_loopback_address(text: str) -> bool:
    """Whether this is one of 127.0.0.0/8 or ::1, written as an address and not as a name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # Not IPv4 in IPv6 and no zones: nobody needs them here, and other programs read them in other ways.
    return address.is_loopback if isinstance(address, ipaddress.IPv4Address) else text == "::1"
