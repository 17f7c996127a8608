"""What the Master is told of tunnels: at once, or with the next link."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from tenantry.daemon.tunnels.held import End, Held
from tenantry.protocol.messages import FromDaemon, TunnelReport, TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelState

_MOST_UNSENT: Final = 64


class Telling:
    """``send`` gives a message to the link; False when there is none."""

    def __init__(self, send: Callable[[FromDaemon], bool]) -> None:
        self._send = send
        self._unsent: list[TunnelReport] = []

    def standing(self, held: Held) -> None:
        """How a tunnel stands. Without a link this is for `news` to say."""
        self._send(_report(held))

    def over(self, tunnel: str, end: End) -> None:
        """A tunnel is over, or does not come about."""
        report = TunnelReport(tunnel, TunnelState.CLOSED, end=end.end, detail=end.detail)
        if not self._send(report):
            self._unsent = [*self._unsent[1 - _MOST_UNSENT :], report]

    def news(self, all_held: Collection[Held]) -> list[FromDaemon]:
        """What comes first on a new link: what could not be sent, how tunnels stand, and which there are."""
        unsent, self._unsent = self._unsent, []
        known = [held for held in all_held if held.state is not TunnelState.ASKED and not held.over.done()]
        return [*unsent, *map(_report, known), TunnelsHeld(tuple(held.id for held in all_held))]


def _report(held: Held) -> TunnelReport:
    if held.state is TunnelState.OPEN:
        return TunnelReport(held.id, held.state, until_ms=held.until_ms, console_path=held.console_path)
    return TunnelReport(held.id, held.state)
