"""How much somebody who is signed in may change within a short time: each deed leaves a record in the audit, which everybody keeps.

General administrators are not bound: they may fill any store there is, and set up thousands of Tenants at once.
"""

from typing import Final

from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.throttling import TokenBuckets
from tenantry.master.operations.viewers import Viewer
from tenantry.protocol.failures import DeedsTooMany

AT_ONCE: Final = 1_000
"""Calls that change something, of one user by all tokens together, before the pace counts."""
PER_MINUTE: Final = 300


class DeedLimits:
    """Counts calls by user. Lives on the event loop."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._buckets = TokenBuckets(AT_ONCE, per_minute=PER_MINUTE)

    def take(self, viewer: Viewer) -> None:
        """Count a call that is about to change something. Raises DeedsTooMany."""
        if viewer.unbounded:
            return
        key, now_ms = str(viewer.user_id), self._clocks.steady_ms()
        wait_ms = self._buckets.wait_ms(key, now_ms)
        if wait_ms > 0:
            raise DeedsTooMany(retry_after_s=-(-wait_ms // 1000))
        self._buckets.take(key, now_ms)
