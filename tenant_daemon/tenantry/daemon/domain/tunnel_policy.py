"""What this machine's owner lets operators reach through tunnels, and when: the decision, without I/O.

Nothing is allowed but what is listed, and the daemon's local console unless that is turned off. The Master has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tenantry.daemon.domain.hours import ALWAYS, LocalMinute, WeeklyHours
from tenantry.protocol.addresses import (
    Address,
    Network,
    contains,
    hidden_addresses,
    is_within,
    is_written_out,
    read_host,
    special_network,
)
from tenantry.protocol.tunnels.targets import Target


class Refusal(Enum):
    """Why a tunnel, or a connection through one, is not allowed. More than that is told to nobody outside."""

    POLICY = "not allowed"
    HOURS = "outside the hours"
    REASON_MISSING = "a reason is needed"
    LIMIT = "too many"


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of the list: a network, or a name with its addresses, and ports.

    ``name``: in small letters, with ``*.`` before it for all names below it; None for a network. ``networks``: where ``name`` is
    None the network, else those in which the name's addresses have to lie (none: anywhere but where only what is written out
    counts). ``ports``: first and last of each range; none: all ports. ``consent``: somebody at this machine has to say yes.
    """

    name: str | None
    networks: tuple[Network, ...]
    ports: tuple[tuple[int, int], ...]
    consent: bool

    def covers_port(self, port: int) -> bool:
        """Whether it is about this port."""
        return not self.ports or any(first <= port <= last for first, last in self.ports)

    def covers_name(self, name: str) -> bool:
        """Whether it is about this name."""
        if self.name is None:
            return False
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return name == self.name

    def lists(self, address: Address) -> bool:
        """Whether the address lies in the entry; of a special network only where the entry is no wider than that."""
        special = special_network(address)
        return any(
            contains(network, address) and (special is None or is_within(network, special)) for network in self.networks
        )


@dataclass(frozen=True, slots=True)
class TunnelPolicy:
    """What the file says. Times are milliseconds; ``time_zone`` is a name of the zones' database, empty for the machine's own.

    ``connections`` is for each tunnel, ``dials_per_minute`` for all of them together. ``recording``: the folder, empty for none.
    """

    allowed: tuple[Allowed, ...] = ()
    console: bool = True
    hours: WeeklyHours = ALWAYS
    time_zone: str = ""
    longest_ms: int = 8 * 3_600_000
    idle_ms: int = 3_600_000
    tunnels: int = 16
    connections: int = 256
    dials_per_minute: int = 6_000
    consent: bool = False
    consent_within_ms: int = 120_000
    reason_required: bool = False
    recording: str = ""
    recording_bytes: int = 1 << 30


NOTHING: Final = TunnelPolicy(console=False)
"""What counts where the file cannot be understood."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A tunnel is allowed. ``consent``: once somebody at this machine has said yes."""

    consent: bool
    longest_ms: int
    idle_ms: int


def judge_tunnel(
    policy: TunnelPolicy, targets: Sequence[Target], reason: str, now: LocalMinute, held: int
) -> Admission | Refusal:
    """Whether a tunnel to these targets may be opened; with none of them each connection will be judged by itself, as it is anyway.

    ``held``: how many there are already, with those that wait for consent. Names are not resolved for it.
    """
    if not policy.console and not policy.allowed:
        return Refusal.POLICY
    if any(not may_be_asked(policy, target) for target in targets):
        return Refusal.POLICY
    if not policy.hours.include(now):
        return Refusal.HOURS
    if policy.reason_required and not reason.strip():
        return Refusal.REASON_MISSING
    if held >= policy.tunnels:
        return Refusal.LIMIT
    return Admission(needs_consent(policy, targets), policy.longest_ms, policy.idle_ms)


def may_be_asked(policy: TunnelPolicy, target: Target) -> bool:
    """What can be said of a target before its name is resolved: of a name that is not listed nobody learns whether it exists."""
    if target.is_console:
        return policy.console
    host = read_host(target.host)
    if host is None:
        return False
    if isinstance(host, str):
        return any(entry.covers_name(host) and entry.covers_port(target.port) for entry in policy.allowed)
    return _is_listed(policy.allowed, host, target.port)


def may_be_dialled(
    policy: TunnelPolicy, target: Target, addresses: Collection[Address], forbidden: Collection[Address]
) -> bool:
    """Whether a connection to a name may go to any of the addresses that it was resolved to: every one of them has to be allowed.

    ``forbidden``: the Master's own, which like loopback count only where they are written out.
    """
    name, port = read_host(target.host), target.port
    if name is None or not addresses or target.is_console:
        return False
    if not isinstance(name, str):
        return all(_stands_alone(policy, one, port, forbidden) for one in addresses)
    entries = [entry for entry in policy.allowed if entry.covers_name(name) and entry.covers_port(port)]
    return bool(entries) and all(
        _stands_alone(policy, one, port, forbidden)
        or any(_belongs_to_name(policy, entry, one, port, forbidden) for entry in entries)
        for one in addresses
    )


def _belongs_to_name(
    policy: TunnelPolicy, entry: Allowed, address: Address, port: int, forbidden: Collection[Address]
) -> bool:
    every = (address, *hidden_addresses(address))
    if any(special_network(one) is not None or one in forbidden for one in every):
        return all(_is_written_out(policy.allowed, one, port) or _is_common(one, forbidden) for one in every)
    return not entry.networks or any(contains(network, address) for network in entry.networks)


def _is_common(address: Address, forbidden: Collection[Address]) -> bool:
    return special_network(address) is None and address not in forbidden


def _stands_alone(policy: TunnelPolicy, address: Address, port: int, forbidden: Collection[Address]) -> bool:
    """Whether the address is listed as one, and all those for which it stands."""
    if not _is_listed(policy.allowed, address, port):
        return False
    every = (address, *hidden_addresses(address))
    return all(one not in forbidden or _is_written_out(policy.allowed, one, port) for one in every)


def _is_listed(entries: Iterable[Allowed], address: Address, port: int) -> bool:
    networks = [entry for entry in entries if entry.name is None and entry.covers_port(port)]
    return all(any(entry.lists(one) for entry in networks) for one in (address, *hidden_addresses(address)))


def _is_written_out(entries: Iterable[Allowed], address: Address, port: int) -> bool:
    return any(
        entry.name is None and entry.covers_port(port) and is_written_out(address, entry.networks) for entry in entries
    )


def needs_consent(policy: TunnelPolicy, targets: Sequence[Target]) -> bool:
    """Whether somebody at this machine has to say yes to a tunnel to these targets, as they are written; with none of them to any."""
    if policy.consent:
        return True
    if not targets:
        return any(entry.consent for entry in policy.allowed)
    return any(entry.consent and _is_about(entry, target) for target in targets for entry in policy.allowed)


def leads_to_consent(policy: TunnelPolicy, target: Target, addresses: Collection[Address]) -> bool:
    """Whether a connection needs a tunnel to which somebody has said yes: for its target, or for an address to which that leads.

    Names are in others' hands: one that is allowed without consent may turn out to be an address that is listed with it.
    """
    return needs_consent(policy, [target]) or any(
        entry.consent and entry.covers_port(target.port) and _holds(entry, one)
        for entry in policy.allowed
        for one in addresses
    )


def may_go_on(policy: TunnelPolicy, target: Target, reached: Address | None, *, consented: bool) -> bool:
    """Whether a connection that is open would still be allowed, as far as that can be said without resolving anything.

    ``reached``: the address to which it was opened. ``consented``: somebody has said yes to its tunnel.
    """
    addresses = () if reached is None else (reached,)
    return may_be_asked(policy, target) and (consented or not leads_to_consent(policy, target, addresses))


def _is_about(entry: Allowed, target: Target) -> bool:
    host = None if target.is_console else read_host(target.host)
    if host is None or not entry.covers_port(target.port):
        return False
    if isinstance(host, str):
        return entry.covers_name(host)
    return _holds(entry, host)


def _holds(entry: Allowed, address: Address) -> bool:
    """Whether the address, or one for which it stands, lies in the entry of a network."""
    every = (address, *hidden_addresses(address))
    return entry.name is None and any(contains(network, one) for network in entry.networks for one in every)


class Rate:
    """How many dials a minute there may be: a minute's worth at once, and then as they come back. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = 0.0
        self._most = 0
        self._at = clock()

    def take(self, per_minute: int) -> bool:
        """One more; False when there are too many."""
        now = self._clock()
        if per_minute != self._most:
            self._left, self._most = float(per_minute), per_minute
        else:
            self._left = min(float(per_minute), self._left + (now - self._at) * per_minute / 60)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
