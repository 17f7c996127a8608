"""What waits for somebody at this machine to say yes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from tenantry.daemon.domain.failures import ConsentNotAsked
from tenantry.daemon.tunnels.held import describe_grant
from tenantry.protocol.tunnels.papers import Grant

MOST_WAITING: Final = 8
"""More would bury the one that matters, and teach people to say yes."""


@dataclass(slots=True)
class _Question:
    grant: Grant
    asked_ms: int
    until_ms: int
    answer: asyncio.Future[str | None] = field(repr=False)


class ConsentWithdrawn(Exception):
    """The tunnel was ended before anybody answered."""


class Consents:
    """The questions that are open, by the id of their tunnel."""

    def __init__(self) -> None:
        self._open: dict[str, _Question] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further question may be asked now."""
        return len(self._open) >= MOST_WAITING

    async def ask(self, grant: Grant, now_ms: int, within_ms: int) -> str | None:
        """Who said yes; None for a no. Raises TimeoutError when nobody answered in time, ConsentWithdrawn."""
        question = _Question(grant, now_ms, now_ms + within_ms, asyncio.get_running_loop().create_future())
        self._open[grant.tunnel] = question
        try:
            async with asyncio.timeout(within_ms / 1000):
                return await question.answer
        finally:
            del self._open[grant.tunnel]

    def answer(self, tunnel: str, *, who: str | None) -> str:
        """Say yes (``who`` said it) or no (None) to the tunnel whose id begins so; its whole id. Raises ConsentNotAsked."""
        found = [one for one in self._open if one.startswith(tunnel.lower())] if tunnel else []
        if len(found) != 1 or self._open[found[0]].answer.done():
            raise ConsentNotAsked(tunnel=tunnel[:40], waiting=str(len(self._open)))
        self._open[found[0]].answer.set_result(who)
        return found[0]

    def withdraw(self, tunnel: str) -> None:
        """The tunnel is over: nobody has to answer any more, if somebody had to."""
        question = self._open.get(tunnel)
        if question is not None and not question.answer.done():
            question.answer.set_exception(ConsentWithdrawn())

    def describe(self) -> list[dict[str, Any]]:
        """What is asked, as plain data; the oldest first."""
        return [
            {
                **describe_grant(one.grant),
                "asked_ms": one.asked_ms,
                "until_ms": one.until_ms,
                "tunnel_until_ms": one.grant.until_ms,
            }
            for one in self._open.values()
        ]
