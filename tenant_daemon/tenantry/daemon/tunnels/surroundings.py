"""What tunnels need of the rest of the daemon."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tenantry.protocol.addresses import Address
from tenantry.protocol.messages import FromDaemon, TenantState

if TYPE_CHECKING:
    from tenantry.transport.tunnel_ends import StreamPort  # a MiB to read into, which only connections need


class RelayLost(Exception):
    """The Master's relay was not reached, or did not take the connection; the message says why."""


class Relay(Protocol):
    """Streams to the Master's listener `relay`."""

    def expecting(self, nonce: bytes) -> AbstractAsyncContextManager[None]:
        """A connection may come of this nonce: what can be made ready for its stream is, as long as this lasts."""
        ...

    def stream(self, port: int, nonce: bytes, window: int) -> AbstractAsyncContextManager[tuple[StreamPort, int]]:
        """A stream for a connection, joined with the operator's, and the window that the operator's end allows. Raises RelayLost."""
        ...

    async def close(self) -> None:
        """Let go of the connection, where no stream is open."""
        ...


class ConsoleDoor(Protocol):
    """The local console, as tunnels reach it."""

    @property
    def is_offered(self) -> bool:
        """Whether there is one."""
        ...

    def invite(self, tunnel: str) -> str:
        """Path and fragment that let a browser in, once, through this tunnel."""
        ...

    async def connect(self, tunnel: str) -> socket.socket:
        """A connection to it that does not block, for this tunnel."""
        ...

    def shut(self, tunnel: str) -> None:
        """This tunnel is over, and who came in by it is out."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """``guid``: of this Tenant. ``data``: the daemon's folder. ``state``: the Tenant's. ``state_changed``: returns at its next change.

    ``send``: a message over the link; False when there is none. ``forbidden``: the Master's own addresses.
    """

    guid: str
    data: Path
    state: Callable[[], TenantState]
    state_changed: Callable[[], Awaitable[None]]
    is_linked: Callable[[], bool]
    send: Callable[[FromDaemon], bool]
    forbidden: Callable[[], Awaitable[Collection[Address]]]
