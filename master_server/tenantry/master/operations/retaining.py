"""Retention: what is older than its stream's retention is erased, a little at a time, so that nobody waits for it."""

from collections.abc import Mapping
from typing import Final

from tenantry.master.domain.records import StreamName
from tenantry.master.sql.database import Database

ROWS_A_STEP: Final = 500


class Retainer:
    """Erases by event time. A stream without a retention keeps everything."""

    def __init__(self, retention_ms: Mapping[StreamName, int], rows_a_step: int = ROWS_A_STEP) -> None:
        """``retention_ms``: how long records of each stream are kept, in milliseconds."""
        self._retention = {stream: kept for stream, kept in retention_ms.items() if kept > 0}
        self._rows = rows_a_step

    def step(self, database: Database, now_ms: int) -> bool:
        """Erase at most `rows_a_step` rows of each stream; True if there may be more. Raises StoreUnavailable.

        Metrics go a chunk at a time, once its newest tick is too old; those that no chunk holds yet stay until one does.
        Of the audit goes what a signed head has seen. Tunnels that have ended go with it, by their end: they are its other half.
        With the stream of alerts go resolved alerts, by when they were resolved, and all that is kept with them; open ones stay.
        """
        more = False
        for stream, kept in self._retention.items():
            before = now_ms - kept
            with database.write() as transaction:
                if stream is StreamName.METRICS_MASTER:
                    erased = transaction.chunks.erase_before(before, self._rows)
                elif stream is StreamName.AUDIT_MESSAGES:
                    tunnels = transaction.tunnels.erase_before(before, self._rows)
                    erased = max(tunnels, transaction.audit.erase_before(before, self._rows))
                elif stream is StreamName.ALERTS:
                    resolved = transaction.alerts.erase_resolved_before(before, self._rows)
                    erased = max(resolved, transaction.records.erase_before(stream, before, self._rows))
                else:
                    erased = transaction.records.erase_before(stream, before, self._rows)
            more = more or erased >= self._rows
        return more
