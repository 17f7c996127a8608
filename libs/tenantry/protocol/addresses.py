"""Addresses that somebody else names as targets: which lead to this machine or into its neighbourhood, and which stand for another."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.tunnels.targets import MAX_HOST, check_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SPECIAL: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network; most systems take 0.0.0.0 for themselves
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and where clouds tell machines their secrets
        "100.100.100.200/32",  # the same of Alibaba's
        "168.63.129.16/32",  # of Azure's
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/128",
        "::1/128",
        "64:ff9b:1::/48",  # translated to IPv4, at a place that only the network's owner knows
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # metadata of Amazon's
        "fd20:ce::/32",  # metadata of Google's
        "ff00::/8",  # multicast
    )
)
"""What no list means by chance: it counts as listed only where it is written out, never as a part of something wider."""

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_TRANSLATED: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0:0/96"))


def read_host(text: str) -> Address | str | None:
    """What an operator or a policy has written as a host: an address, a name in small ASCII letters without the dot at its end, or
    None for what is neither.

    No other spelling of an address passes for a name: decimal, octal, hexadecimal and shortened ones are understood by most
    resolvers, each in its own way. A zone (``%eth0``) means nothing on somebody else's machine. ``localhost`` is 127.0.0.1.
    """
    try:
        host = check_host(text if text.isascii() or len(text) > MAX_HOST else text.encode("idna").decode("ascii"))
    except (FieldInvalid, UnicodeError):
        return None
    try:
        address = ipaddress.ip_address(host)
        return _plain(address) if text.isascii() else None
    except ValueError:
        pass
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    return host


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as a mapped IPv6 one is dialled as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def read_address(text: str) -> Address | None:
    """An address that a resolver gave, mapped ones as IPv4; None with a zone, or for what is none."""
    try:
        return _plain(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        return None


def hidden_addresses(address: Address) -> tuple[Address, ...]:
    """The IPv4 addresses for which an IPv6 address stands, by whichever of the ways: compatible, translated, 6to4, Teredo, ISATAP."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    number = int(address)
    found: list[int] = []
    if (
        address in _MAPPED
        or (address in _COMPATIBLE and number > 1)
        or any(address in network for network in _TRANSLATED)
    ):
        found.append(number & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        found.append(int(address.sixtofour))
    if address.teredo is not None:
        found += [int(one) for one in address.teredo]
    if number >> 32 & 0xFDFF_FFFF == 0x0000_5EFE:
        found.append(number & 0xFFFF_FFFF)
    return tuple(dict.fromkeys(ipaddress.IPv4Address(one) for one in found))


def special_network(address: Address) -> Network | None:
    """The one of `SPECIAL` to which it belongs."""
    return next((network for network in SPECIAL if address.version == network.version and address in network), None)


def contains(network: Network, address: Address) -> bool:
    """Whether it lies in it; an address of the other family never does."""
    return network.version == address.version and address in network


def is_within(inner: Network, outer: Network) -> bool:
    """Whether all of ``inner`` is part of ``outer``."""
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def is_written_out(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of the networks is this very address, or a part of the special network in which it lies."""
    special = special_network(address)
    return any(
        contains(network, address)
        and (network.num_addresses == 1 or (special is not None and is_within(network, special)))
        for network in networks
    )
