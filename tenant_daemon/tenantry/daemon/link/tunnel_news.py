"""What the Master says over the link about tunnels, handed to whoever takes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from tenantry.protocol.daemon_link import DialAsked, TunnelEnded, TunnelOffered, TunnelsKept
from tenantry.protocol.messages import FromDaemon
from tenantry.protocol.tunnels.ends import TunnelEnd

TunnelNews = TunnelOffered | DialAsked | TunnelEnded | TunnelsKept


class TunnelDesk(Protocol):
    """Who takes what the Master says about tunnels. Every method returns at once."""

    def offered(self, token: str, relay_port: int) -> None:
        """An operator asks for a tunnel."""

    def dial_asked(self, token: str) -> None:
        """An operator opens a connection."""

    def ended(self, tunnel: str, end: TunnelEnd, detail: str) -> None:
        """The Master has ended a tunnel."""

    def kept(self, tunnels: Collection[str]) -> None:
        """The Master holds these tunnels."""

    def news(self) -> Iterable[FromDaemon]:
        """What is to be said first on a new link."""


def hand_over(desk: TunnelDesk | None, news: TunnelNews) -> None:
    """Give it to the desk; without one this daemon takes no tunnels, and has said so."""
    if desk is None:
        return
    match news:
        case TunnelOffered():
            desk.offered(news.grant, news.relay_port)
        case DialAsked():
            desk.dial_asked(news.ticket)
        case TunnelEnded():
            desk.ended(news.tunnel_id, news.end, news.detail)
        case TunnelsKept():
            desk.kept(news.tunnel_ids)
