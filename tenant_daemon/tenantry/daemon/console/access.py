"""Who may look: tickets, handed out on the control socket, each exchanged once for a session of a browser's tab.

Both are 256 random bits, live in this process's memory alone, and are kept as hashes. A restart of the daemon ends them all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

TICKET_S = 300.0
SESSION_S = 12 * 3600.0
MOST_TICKETS = 16
MOST_SESSIONS = 16
_BYTES = 32


class Access:
    """The tickets and sessions that count now. ``clock`` gives seconds and is never set back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tickets: dict[bytes, float] = {}
        self._sessions: dict[bytes, float] = {}

    def make_ticket(self) -> str:
        """A ticket for one exchange within `TICKET_S`. The oldest one gives way where there are `MOST_TICKETS`."""
        return self._make(self._tickets, TICKET_S, MOST_TICKETS)

    def exchange(self, ticket: str) -> str | None:
        """A session for the ticket, which counts nothing from now on; None for one that is unknown, used or too old."""
        known = self._find(self._tickets, ticket)
        if known is None:
            return None
        del self._tickets[known]
        return self._make(self._sessions, SESSION_S, MOST_SESSIONS)

    def admits(self, session: str) -> bool:
        """Whether this session is open."""
        return self._find(self._sessions, session) is not None

    def _make(self, kept: dict[bytes, float], lifetime_s: float, most: int) -> str:
        secret = secrets.token_urlsafe(_BYTES)
        while len(kept) >= most:
            del kept[next(iter(kept))]
        kept[_hash(secret)] = self._clock() + lifetime_s
        return secret

    def _find(self, kept: dict[bytes, float], secret: str) -> bytes | None:
        now = self._clock()
        for known in [one for one, end in kept.items() if end <= now]:
            del kept[known]
        wanted = _hash(secret)
        found = None
        for known in kept:
            if hmac.compare_digest(known, wanted):
                found = known
        return found


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
