"""Witnessing the Master's audit: each head that it shows is proven and compared with all that came before.

`witness_heads` does the work in a short-lived process (it needs the certificate library); `Witness` is the daemon's side of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from tenantry.daemon.link.certificate_process import CertificateProcess, CertificateWorkFailed
from tenantry.protocol.audit_chain import Judgement

_log = structlog.get_logger(__name__)

UNPROVEN = "unproven"
MOST_PENDING = 16
_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a head. ``judgement`` is a `Judgement`'s name, or `UNPROVEN`; ``news``: nobody was told of this before."""

    judgement: str
    detail: str
    sequence: int
    news: bool

    @property
    def is_alarming(self) -> bool:
        """Whether the Master's audit cannot be believed."""
        return self.judgement in (Judgement.CONTRADICTS.name, UNPROVEN)

    @property
    def is_worth_telling(self) -> bool:
        """Whether people should know."""
        return self.news and self.judgement not in (
            Judgement.FIRST.name,
            Judgement.NEXT.name,
            Judgement.KNOWN.name,
        )

    def describe(self) -> str:
        """For people."""
        if self.judgement == UNPROVEN:
            return f"the Master shows an audit head that nobody trusted has signed: {self.detail}"
        if self.judgement == Judgement.CONTRADICTS.name:
            return f"the Master's audit history does not continue what this Tenant witnessed: {self.detail}"
        if self.judgement == Judgement.RESTORED.name:
            return f"the Master's audit went back to a backup: {self.detail}"
        return f"audit heads of another Master: {self.detail}"


class Witness:
    """Takes the heads that the Master shows. ``tell`` is called with every verdict that people should know."""

    def __init__(self, certificates: CertificateProcess, tell: Callable[[Verdict], Awaitable[None]]) -> None:
        self._certificates = certificates
        self._tell = tell
        self._pending: deque[str] = deque(maxlen=MOST_PENDING)
        self._came = asyncio.Event()
        self._unproven_told = False
        self.last: Verdict | None = None
        self.last_ms: int | None = None

    def show(self, token: str) -> None:
        """The Master shows a head. Returns at once."""
        self._pending.append(token)
        self._came.set()

    async def run(self) -> None:
        """Judge what is shown, for as long as the daemon runs."""
        while True:
            await self._came.wait()
            self._came.clear()
            tokens = list(self._pending)
            self._pending.clear()
            try:
                verdicts = await self._certificates.witness(tokens, time.time_ns() // 1_000_000)
            except CertificateWorkFailed as error:
                _log.error("audit head not kept; trying again", cause=str(error))
                await asyncio.sleep(_RETRY_S)
                for token in reversed(tokens):
                    self._pending.appendleft(token)
                self._came.set()
                continue
            await self._take([Verdict(**verdict) for verdict in verdicts])

    async def _take(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self.last, self.last_ms = verdict, time.time_ns() // 1_000_000
            news = verdict.is_worth_telling
            if verdict.judgement == UNPROVEN:
                # Such heads leave no trace in the archive: told once a run.
                news, self._unproven_told = not self._unproven_told, True
            if verdict.is_alarming:
                _log.error("audit of the Master in doubt", cause=verdict.describe(), told=news)
            elif news:
                _log.warning("audit of the Master", cause=verdict.describe())
            if news:
                await self._tell(verdict)
