"""What stands for tunnels in a daemon that has none: it knows the policy, and loads everything else with the first offer.

Most daemons never see a tunnel, and all of them are to stay small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenantry.daemon.domain.failures import ConsentNotAsked, TunnelNotHeld
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy
from tenantry.protocol.messages import FromDaemon, TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelEnd

if TYPE_CHECKING:
    from tenantry.daemon.tunnels.serving import Tunnels


class TunnelFront:
    """The desk for tunnels, to the link, the console and the control socket."""

    def __init__(self, data: Path, watched: WatchedPolicy, make: Callable[[], Tunnels]) -> None:
        """``data``: the daemon's folder. ``make`` loads the rest; it is called once."""
        self._data = data
        self._watched = watched
        self._make = make
        self._tunnels: Tunnels | None = None
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Serve tunnels until cancelled; then all of them are over."""
        await self._watched.look()
        # Where there were tunnels once, their log may lack an end.
        if not await asyncio.to_thread((self._data / "tunnels").exists):
            await self._wanted.wait()
        await self._load().run()

    def offered(self, token: str, relay_port: int) -> None:
        """An operator asks for a tunnel."""
        self._load().offered(token, relay_port)

    def dial_asked(self, token: str) -> None:
        """An operator opens a connection."""
        self._load().dial_asked(token)

    def ended(self, tunnel: str, end: TunnelEnd, detail: str) -> None:
        """The Master has ended a tunnel."""
        if self._tunnels is not None:
            self._tunnels.ended(tunnel, end, detail)

    def kept(self, tunnels: Collection[str]) -> None:
        """The Master holds these and no others."""
        if self._tunnels is not None:
            self._tunnels.kept(tunnels)

    def news(self) -> Iterable[FromDaemon]:
        """What a Master has to be told first on a new link."""
        return [TunnelsHeld(())] if self._tunnels is None else self._tunnels.news()

    def describe(self, only: str | None = None) -> dict[str, Any]:
        """How tunnels stand here, as plain data. ``only``: for who sees nothing but this tunnel."""
        if self._tunnels is not None:
            return self._tunnels.describe(only)
        nothing: dict[str, Any] = {"own": only, "held": [], "waiting": [], "policy": None, "log": None}
        if only is not None:
            return nothing
        return {**nothing, "policy": self._watched.describe(), "log": {"trouble": "", "missed": 0}}

    def answer(self, tunnel: str, *, yes: bool, who: str) -> str:
        """Answer a question for consent; the tunnel's id. Raises ConsentNotAsked."""
        if self._tunnels is None:
            raise ConsentNotAsked(tunnel=tunnel[:40], waiting="0")
        return self._tunnels.answer(tunnel, yes=yes, who=who)

    def close(self, tunnel: str, who: str) -> str:
        """End the tunnel whose id begins so; its whole id. Raises TunnelNotHeld."""
        if self._tunnels is None:
            raise TunnelNotHeld(tunnel=tunnel[:40])
        return self._tunnels.close(tunnel, who)

    def _load(self) -> Tunnels:
        if self._tunnels is None:
            self._tunnels = self._make()
            self._wanted.set()
        return self._tunnels
