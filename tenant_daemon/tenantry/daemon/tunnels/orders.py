"""What people at this machine ask about tunnels on the control socket: the commands `consent` and `tunnels`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from tenantry.daemon.domain.failures import TunnelsOff

if TYPE_CHECKING:
    from tenantry.daemon.tunnels.front import TunnelFront  # a daemon without a Master does not load it

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class TunnelOrders:
    """The handlers by the words of the control socket. ``tunnels`` None: this daemon takes none."""

    def __init__(self, tunnels: TunnelFront | None) -> None:
        self._tunnels = tunnels
        self.handlers: Mapping[str, Handler] = {
            "tunnels": self._list,
            "tunnels.close": self._close,
            "tunnels.answer": self._answer,
        }

    async def _list(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"tunnels": self._found().describe()}

    async def _close(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"tunnel": self._found().close(str(request["tunnel"]), "tenantry-daemon tunnels close")}

    async def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        yes = request["yes"] is True
        return {"tunnel": self._found().answer(str(request["tunnel"]), yes=yes, who=str(request["who"])[:100])}

    def _found(self) -> TunnelFront:
        if self._tunnels is None:
            raise TunnelsOff
        return self._tunnels
