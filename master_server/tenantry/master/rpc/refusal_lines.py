"""Lines of the log about refused calls: the first of a kind within a minute, and then how many there were."""

import asyncio
from typing import Final

import structlog

LINES_PER_MINUTE: Final = 20
"""So many of one method and reason. A guess shall not cost more than its answer."""
_WINDOW_S: Final = 60.0

log = structlog.get_logger()


class RefusalLines:
    """Writes the lines of one listener. Lives on the event loop. The kinds are bounded: methods and reasons are ours."""

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self._window_s = window_s
        self._refused: dict[tuple[str, str], int] = {}

    def write(self, method: str, reason: str, request_id: str) -> None:
        """A call was refused."""
        kind = (method, reason)
        if not self._refused:
            asyncio.get_running_loop().call_later(self._window_s, self._sum_up)
        number = self._refused[kind] = self._refused.get(kind, 0) + 1
        if number <= LINES_PER_MINUTE:
            log.info("call refused", method=method, reason=reason, request_id=request_id)

    def _sum_up(self) -> None:
        refused, self._refused = self._refused, {}
        for (method, reason), number in refused.items():
            if number > LINES_PER_MINUTE:
                more = number - LINES_PER_MINUTE
                log.info("more calls refused", method=method, reason=reason, calls=more, within_s=self._window_s)
