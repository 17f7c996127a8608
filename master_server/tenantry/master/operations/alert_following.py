"""Following alerts: each step shows what has changed since the one before, as it is now. Nothing is queued for anybody.

A follower's place is a revision: every change of an alert gives it one above all others, so that an alert that changed several times
is read once.
"""

from dataclasses import dataclass
from typing import Final

from tenantry.master.domain.access import Sight
from tenantry.master.domain.alerts import Alert, AlertFilter
from tenantry.master.sql.transaction import Transaction

ALERTS_A_STEP: Final = 200


@dataclass(frozen=True, slots=True)
class AlertStep:
    """Alerts that changed and whether each matches, the place behind them, and whether there is more to read at once."""

    alerts: list[tuple[Alert, bool]]
    revision: int
    more: bool


class AlertTail:
    """One follower's way through the changes. `advance` blocks and is called by one thread at a time."""

    def __init__(self, wanted: AlertFilter, sight: Sight, after: int | None) -> None:
        """``after``: the revision behind which to begin; None for all that match now."""
        self._wanted = wanted
        self._sight = sight
        self._after = after or 0
        self._first = after is None

    def advance(self, transaction: Transaction) -> AlertStep:
        """What has changed since the step before, or a part of it."""
        store = transaction.alerts
        newest = store.newest_revision()
        if self._after > newest:
            # The place of another life of this store: it was restored from a backup.
            self._after, self._first = 0, True
        found = store.changed_after(self._after, ALERTS_A_STEP, self._wanted, self._sight, matching=self._first)
        more = len(found) == ALERTS_A_STEP
        self._after = found[-1][0].revision if more else newest
        self._first = self._first and more
        return AlertStep(found, self._after, more)
