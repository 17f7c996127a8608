"""Lines of the log about what was refused: the first of a kind within a minute, and then how many there were."""

import asyncio
from typing import Any, Final

import structlog

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.monitoring.figures import MasterMetrics

LINES_PER_MINUTE: Final = 20
"""So many of one method and reason. A guess shall not cost more than its answer."""
_WINDOW_S: Final = 60.0

log = structlog.get_logger()


class RefusalLines:
    """Writes the lines of one listener. Lives on the event loop. Whoever writes sees to it that the kinds are bounded."""

    def __init__(self, event: str = "call refused") -> None:
        """``event``: what each line says."""
        self._event = event
        self._refused: dict[tuple[str, str], int] = {}

    def write(self, method: str, reason: str, **facts: Any) -> None:
        """Something was refused. ``method`` and ``reason`` are its kind, ``facts`` are of this one alone."""
        kind = (method, reason)
        if not self._refused:
            asyncio.get_running_loop().call_later(_WINDOW_S, self._sum_up)
        number = self._refused[kind] = self._refused.get(kind, 0) + 1
        if number <= LINES_PER_MINUTE:
            log.info(self._event, method=method, reason=reason, **facts)

    def _sum_up(self) -> None:
        refused, self._refused = self._refused, {}
        for (method, reason), number in refused.items():
            if number > LINES_PER_MINUTE:
                log.info(self._event, method=method, reason=reason, more_times=number - LINES_PER_MINUTE)


class ConnectionLines:
    """What is counted and written down of connections that the Master ends because of their peer."""

    def __init__(self, metrics: MasterMetrics) -> None:
        self._metrics = metrics
        self._lines = RefusalLines("connection ended")

    def note(self, end: ConnectionEnd, peer: str, cause: str) -> None:
        """One was ended: how, whose, and why in words."""
        self._metrics.connection_ended(end)
        self._lines.write("link", end.value, peer=peer, cause=cause)
