"""Who gets the next turn where several ask for it: drawn by lot among connections, so that asking first or often gains nothing."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from tenantry.protocol.failures import TooManyAttempts

MAX_TICKETS: Final = 4_096
"""Connections of a draw that are told apart; beyond them each time that one asks counts."""


SLACK_MS: Final = 10
"""Timers are not as exact as the clock that attempts are counted by."""


class Timer(Protocol):
    """Something that was put off and can be called off."""

    def cancel(self) -> None:
        """It does not come any more."""


@dataclass(slots=True)
class _Draw:
    """``holder``: who would have the turn if it came now; becomes True when it does, False when another one was drawn."""

    holder: "asyncio.Future[bool]"
    asked: int = 0
    tickets: set[str] = field(default_factory=set)


def _later(delay_s: float, function: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, function)


class Lots:
    """Draws that are going on, by what they are about. Only one waits in each, all others are told to come back at once.

    The n-th connection that asks takes the place of who waits with a chance of 1/n; so each has the same in the end.
    """

    def __init__(
        self,
        *,
        below: Callable[[int], int] = secrets.randbelow,
        later: Callable[[float, Callable[[], None]], Timer] = _later,
    ) -> None:
        """``below``: a random number below another; ``later``: calls after so many seconds."""
        self._below = below
        self._later = later
        self._draws: dict[tuple[str, str], _Draw] = {}

    def __len__(self) -> int:
        """How many draws are going on."""
        return len(self._draws)

    def contested(self, about: tuple[str, str]) -> bool:
        """Whether somebody waits for this turn: then nobody just takes it."""
        return about in self._draws

    async def draw(self, about: tuple[str, str], connection: str, wait_ms: int, patience_s: float) -> None:
        """Take part in the draw of the turn that comes in so many milliseconds; return when it has come and is one's own.

        What the caller does until it waits for something again comes before anybody else's asking. Raises TooManyAttempts,
        at once when ``patience_s`` does not last until then, and when another one is drawn.
        """
        refusal = TooManyAttempts(retry_after_s=max(1, -(-wait_ms // 1000)))
        if wait_ms / 1000 >= patience_s:
            raise refusal
        draw = self._draws.get(about)
        mine = asyncio.get_running_loop().create_future()
        if draw is None:
            self._draws[about] = draw = _Draw(mine)
        if connection in draw.tickets or draw.holder.done():
            raise refusal
        if len(draw.tickets) < MAX_TICKETS:
            draw.tickets.add(connection)
        draw.asked += 1
        if self._below(draw.asked) != 0:
            raise refusal
        if draw.holder is not mine:
            draw.holder.set_result(False)
            draw.holder = mine
        timer = self._later((wait_ms + SLACK_MS) / 1000, lambda: None if mine.done() else mine.set_result(True))
        try:
            if not await mine:
                raise refusal
        finally:
            timer.cancel()
            if draw.holder is mine:
                del self._draws[about]
