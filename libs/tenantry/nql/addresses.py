"""IP addresses as queries read them: IPv4 in four decimal parts, IPv6 in words; an IPv4 address written inside of IPv6 is IPv4."""

from __future__ import annotations

import ipaddress
import re

_PART = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = rf"{_PART}(?:\.{_PART}){{3}}"
# Words of at most four digits with at most one gap; how many words there may be is counted.
IPV6_WORDS = r"(?i)(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?(?:::(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?)?"
MAPPED = r"^::[fF]{4}:(\d+\.\d+\.\d+\.\d+)$"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV4 = re.compile(IPV4, re.ASCII)
_IPV6 = re.compile(IPV6_WORDS, re.ASCII)
_MAPPED = re.compile(MAPPED.replace("$", r"\Z"), re.ASCII)


def read_address(text: str) -> Address | None:
    """The address that a text is; None where it is none."""
    mapped = _MAPPED.match(text)
    text = mapped[1] if mapped else text
    if _IPV4.fullmatch(text) is None and _IPV6.fullmatch(text) is None:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
