"""A daemon without a Master: what is on the disk counts as delivered, and the licence is watched here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable

import structlog

from tenantry.daemon.domain.failures import SpoolFull, SpoolReplaced, SpoolUnavailable
from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.operations.outbox import Inbox, Outbox
from tenantry.protocol.failures import Failure, LicenceExpired
from tenantry.protocol.licences import Licence, due_warning
from tenantry.protocol.messages import NotificationLevel, NotificationRecord, Stream
from tenantry.transport.records import encode_notification

_log = structlog.get_logger(__name__)

WARNED_MEMORY = "licence_warning"
SETTLE_S = 10.0
CHECK_S = 600.0
CHECK_WITHOUT_S = 60.0
"""A licence that is put beside one that has ended is found this soon."""
CLOCK_S = 5.0
"""How often the clock is compared with the licence's end: it may be set at any moment."""


async def settle_for_ever(outbox: Outbox, grown: asyncio.Event) -> None:
    """Let the spool be a history: everything in it is settled, so that the oldest gives way to the newest, whatever it is."""
    settled: dict[Stream, int] = {}
    while True:
        for stream, end in outbox.ends.items():
            if end - 1 > settled.get(stream, 0):
                with contextlib.suppress(SpoolUnavailable, SpoolReplaced):
                    await outbox.acknowledge(stream, end - 1, time.time_ns() // 1_000_000)
                    settled[stream] = end - 1
            elif end - 1 < settled.get(stream, 0):
                settled[stream] = 0  # a new epoch has begun
        grown.clear()
        await asyncio.sleep(SETTLE_S)
        await grown.wait()


class LicenceWatch:
    """Warns before the licence ends and when it has ended; each warning once, also over restarts. Stops nothing."""

    def __init__(
        self,
        inbox: Inbox,
        check: Callable[[], Awaitable[Licence]],
        licence: Licence,
        *,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``check`` says which licence is in force now, or raises why none is; ``licence`` is the one with which all began."""
        self._inbox = inbox
        self._check = check
        self._wall_ms = wall_ms
        self._sleep = sleep
        self.licence = licence
        self.trouble: Failure | None = None

    async def run(self) -> None:
        """Look from time to time, and when the licence ends, until cancelled."""
        while True:
            try:
                self.licence, self.trouble = await self._check(), None
            except Failure as failure:
                if self.trouble is None:
                    _log.warning("no licence in force; what runs goes on", cause=failure.describe())
                self.trouble = failure
            with contextlib.suppress(SpoolFull, SpoolUnavailable):
                await self.warn(self._wall_ms())
            await self._until_next_look()

    async def _until_next_look(self) -> None:
        waited, longest = 0.0, CHECK_S if self.trouble is None else CHECK_WITHOUT_S
        while waited < longest:
            step = min(CLOCK_S, longest - waited)
            if self.trouble is None:
                left_ms = self.licence.not_after_ms - self._wall_ms()
                if left_ms <= 0:
                    return
                step = min(step, left_ms / 1000)
            await self._sleep(step)
            waited += step

    async def warn(self, now_ms: int) -> None:
        """Keep the warning that is due now, if one is. Raises SpoolFull, SpoolUnavailable."""
        licence = self.licence
        warned = await self._inbox.recall(WARNED_MEMORY)
        known = json.loads(warned) if warned is not None else {}
        earlier = known.get("days") if known.get("serial") == licence.serial else None
        days = due_warning(licence, licence.not_after_ms, earlier, now_ms)
        if days is None:
            return
        if days == 0:
            level, text = NotificationLevel.ERROR, f"the licence {licence.serial} has ended; what runs goes on"
        else:
            left = "1 day" if days == 1 else f"{days} days"
            level, text = NotificationLevel.WARNING, f"the licence {licence.serial} ends within {left}"
        record = encode_notification(NotificationRecord(now_ms, level, "licence", text))
        memory = {WARNED_MEMORY: json.dumps({"serial": licence.serial, "days": days}).encode()}
        await self._inbox.accept(Deposit([Entry(Stream.NOTIFICATIONS, record, now_ms)], (), memory))
        _log.warning("licence", text=text)

    @property
    def expired(self) -> bool:
        """Whether what runs, runs on after the end of its licence."""
        return isinstance(self.trouble, LicenceExpired)
