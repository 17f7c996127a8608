"""Reads in the audit: who read what, without a record for each poll of a console.

The first call of a kind by somebody from somewhere is written at once, in the commit that is due; what follows within a minute is
counted, and the count is written when the minute is over. Nobody waits for these records: a Master that dies within milliseconds of
a read may lose its record; one of a change never.
"""

import asyncio
import contextlib
from dataclasses import dataclass, replace

import structlog

from tenantry.master.domain.records import NewRecord
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.protocol.failures import Failure

WINDOW_MS = 60_000
MOST_KINDS = 10_000
_LOOK_S = 5.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Window:
    actor: Actor
    action: str
    failure: Failure | None
    begun_ms: int
    repeats: int = 0


class ReadLedger:
    """Takes note of calls that change nothing. Lives on the event loop."""

    def __init__(self, committer: Committer, clocks: Clocks) -> None:
        self._committer = committer
        self._clocks = clocks
        self._windows: dict[tuple[str, str, str, str], _Window] = {}
        self._due: list[NewRecord] = []
        self._came = asyncio.Event()

    def note(self, actor: Actor, action: str, failure: Failure | None = None) -> None:
        """Somebody has made a call, or was refused with ``failure``. Returns at once."""
        host = actor.address.rpartition(":")[0]
        key = (str(actor), host, action, failure.reason if failure is not None else "")
        window = self._windows.get(key)
        if window is None and len(self._windows) >= MOST_KINDS:
            # So many kinds within a minute are no people any more: they share a window for each action.
            key = ("", "", action, key[3])
            window = self._windows.get(key)
        if window is not None:
            window.repeats += 1
            return
        now_ms = self._clocks.wall_ms()
        self._windows[key] = _Window(actor, action, failure, now_ms)
        self._due.append(journal.audit(actor, action, now_ms, None, failure, read=True))
        self._came.set()

    async def run(self) -> None:
        """Write what came, for as long as the Master runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._came.wait()
            self._came.clear()
            self._close_windows(self._clocks.wall_ms() - WINDOW_MS)
            await self._write()

    async def finish(self) -> None:
        """Write everything that is known: the Master stops."""
        self._close_windows(None)
        await self._write()

    def _close_windows(self, begun_before_ms: int | None) -> None:
        now_ms = self._clocks.wall_ms()
        for key, window in list(self._windows.items()):
            if begun_before_ms is not None and begun_before_ms < window.begun_ms <= now_ms:
                continue
            del self._windows[key]
            if window.repeats:
                # Several calls have several ids.
                actor = replace(window.actor, request_id="")
                self._due.append(
                    journal.audit(
                        actor,
                        window.action,
                        now_ms,
                        None,
                        window.failure,
                        read=True,
                        calls=window.repeats,
                        since_ms=window.begun_ms,
                    )
                )

    async def _write(self) -> None:
        due, self._due = self._due, []
        if not due:
            return
        try:
            await self._committer.run(lambda transaction: transaction.records.append(due))
        except Failure as failure:
            log.error("reads not audited", records=len(due), reason=failure.reason)
