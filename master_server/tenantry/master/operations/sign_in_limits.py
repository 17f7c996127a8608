"""How often passwords and codes may be tried, so that guessing is hopeless and nobody can shut out somebody else.

Four bounds. The pair of user and source waits longer after each failure. A source, a user (over all sources), and all strangers
together have a bucket each. A source from which the user has signed in before is bound by its own pair alone: whatever others do
elsewhere, it goes on, and its longest wait is a minute. A device that proves an earlier sign-in of the user, and the user who is
signed in, are sources of their own of that kind. An attempt counts from its beginning, so that many at once gain nothing.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tenantry.master.operations.throttling import TokenBuckets, refuse_early

FREE_FAILURES: Final = 3
LONGEST_WAIT_MS: Final = 15 * 60_000
LONGEST_WAIT_WHERE_KNOWN_MS: Final = 60_000
FORGIVEN_AFTER_MS: Final = 3_600_000
SOURCE_CAPACITY, SOURCE_PER_MINUTE = 30, 20
USER_CAPACITY, USER_PER_HOUR = 20, 100
STRANGERS_PER_MINUTE: Final = 120
REMEMBERED: Final = 10_000

SIGNED_IN: Final = "signed in"
"""The source of everything that is proven again in a session: strangers have no part in it."""


def source_of(host: str) -> str:
    """What attempts are counted by: an IPv4 address, or the /64 network of an IPv6 address, all of which one machine can have."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def source_of_device(device: str) -> str:
    """The source of attempts with the proof of this device, wherever it is."""
    return f"device {device}"


@dataclass(slots=True)
class _Pair:
    failures: int = 0
    until_ms: int = 0
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that is under way; counts as failed unless it is said otherwise."""

    user: str
    source: str
    known: bool


class SignInLimits:
    """Counts attempts in memory; of users and sources those seen last are remembered. Times are steady milliseconds."""

    def __init__(self, *, strangers_per_minute: int = STRANGERS_PER_MINUTE, remembered: int = REMEMBERED) -> None:
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self._remembered = remembered
        self._sources = TokenBuckets(SOURCE_CAPACITY, per_minute=SOURCE_PER_MINUTE, keys=remembered)
        self._users = TokenBuckets(USER_CAPACITY, per_minute=USER_PER_HOUR / 60, keys=remembered)
        self._strangers = TokenBuckets(strangers_per_minute, per_minute=strangers_per_minute, keys=1)

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self._pairs) + len(self._sources) + len(self._users)

    def wait_ms(self, user: str, source: str, now_ms: int) -> int:
        """How long this user waits at this source, whatever others do there and elsewhere; 0: not at all."""
        pair = self._pairs.get((user, source))
        return max(0, pair.until_ms - now_ms) if pair is not None else 0

    def begin(self, user: str, source: str, now_ms: int, *, known: bool) -> Attempt:
        """Count an attempt. ``known``: the user has signed in from there before. Raises TooManyAttempts, and counts nothing then."""
        pair = self._pairs.get((user, source))
        if pair is not None and now_ms - pair.at_ms > FORGIVEN_AFTER_MS:
            pair.failures = 0
        own_wait = self.wait_ms(user, source, now_ms)
        if known:
            refuse_early(own_wait)
        else:
            refuse_early(
                own_wait,
                self._sources.wait_ms(source, now_ms),
                self._users.wait_ms(user, now_ms),
                self._strangers.wait_ms("", now_ms),
            )
            self._sources.take(source, now_ms)
            self._users.take(user, now_ms)
            self._strangers.take("", now_ms)
        pair = self._pairs.pop((user, source), None) or _Pair()
        self._pairs[user, source] = pair
        if len(self._pairs) > self._remembered:
            self._pairs.popitem(last=False)
        pair.failures += 1
        pair.at_ms = now_ms
        pair.until_ms = now_ms + _wait_ms(pair.failures, known=known)
        return Attempt(user, source, known)

    def succeeded(self, attempt: Attempt) -> None:
        """The attempt let somebody in: it costs nothing, and the failures before it are forgotten."""
        self._pairs.pop((attempt.user, attempt.source), None)
        self._give_back(attempt)

    def not_made(self, attempt: Attempt) -> None:
        """Nothing was compared, because there was no room for it: it was no attempt."""
        self.half_way(attempt)
        self._give_back(attempt)

    def half_way(self, attempt: Attempt) -> None:
        """The password was right and a code is needed: no failure, but it has cost what a guess costs."""
        pair = self._pairs.get((attempt.user, attempt.source))
        if pair is not None:
            pair.failures = max(0, pair.failures - 1)
            pair.until_ms = 0

    def _give_back(self, attempt: Attempt) -> None:
        if not attempt.known:
            self._sources.give_back(attempt.source)
            self._users.give_back(attempt.user)
            self._strangers.give_back("")


def _wait_ms(failures: int, *, known: bool) -> int:
    """Nothing for the first failures, then 1 s, 2 s, 4 s and so on."""
    if failures <= FREE_FAILURES:
        return 0
    longest = LONGEST_WAIT_WHERE_KNOWN_MS if known else LONGEST_WAIT_MS
    return int(min(longest, 1000 << min(20, failures - FREE_FAILURES - 1)))
