"""Where the Master lets itself be sent by those who write receivers: the decision about addresses, without I/O."""

from collections.abc import Collection
from dataclasses import dataclass

from tenantry.protocol.addresses import (
    Address,
    Network,
    contains,
    hidden_addresses,
    is_written_out,
    special_network,
)


@dataclass(frozen=True, slots=True)
class DestinationPolicy:
    """Networks as the Master's configuration names them.

    Loopback, link-local, metadata and the like (`tenantry.protocol.addresses.SPECIAL`), and the machine's own addresses, are reached
    only where ``allowed`` writes them out: such a network by itself, or a part of it, or the one address. ``denied`` is never reached,
    but for what ``allowed`` holds. Everything else is.
    """

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def permits(self, address: Address, own: Collection[Address]) -> bool:
        """Whether a connection may be made to the address, and to those for which it stands. ``own``: the machine's addresses."""
        return all(self._permits(one, own) for one in (address, *hidden_addresses(address)))

    def _permits(self, address: Address, own: Collection[Address]) -> bool:
        if special_network(address) is not None or address in own:
            return is_written_out(address, self.allowed)
        if any(contains(network, address) for network in self.denied):
            return any(contains(network, address) for network in self.allowed)
        return True
