"""The local console as a part of a daemon: its port, what `status` says about it, and the links that open it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from tenantry.daemon.config import ListenAddress
from tenantry.daemon.console.access import TICKET_S, Access
from tenantry.daemon.console.answering import Answering, Facts, Tunnels
from tenantry.daemon.console.connections import MOST_HEADERS, Connections
from tenantry.daemon.domain.failures import ConsoleNotServed
from tenantry.protocol.joining import join_address

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Door:
    """The way in through one tunnel."""

    access: Access
    connections: Connections


class LocalConsole:
    """The console on the port that the settings name; a port that cannot be had costs the daemon nothing else."""

    def __init__(self, listen: ListenAddress | None, facts: Facts) -> None:
        """``facts`` is asked for what the page shows; None for ``listen`` turns the console off."""
        self._listen = listen
        self._access = Access(time.monotonic)
        self._facts = facts
        self._tunnels: Tunnels | None = None
        self._doors: dict[str, _Door] = {}
        self._address: str | None = None
        self._trouble = "it has not been opened yet" if listen is not None else "console_listen is off"

    def show_tunnels(self, tunnels: Tunnels) -> None:
        """Show them too. To be called before `served`."""
        self._tunnels = tunnels

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        if self._listen is None:
            yield
            return
        connections = Connections(Answering(self._facts, self._access, self._tunnels).answer)
        host, port = self._listen.host, self._listen.port
        try:
            server = await asyncio.start_server(connections.serve, host, port, limit=MOST_HEADERS, backlog=16)
        except OSError as error:
            self._trouble = f"{join_address(host, port)} cannot be used: {os.strerror(error.errno or 0)}"
            _log.warning("no local console", cause=self._trouble)
            yield
            return
        try:
            self._address = join_address(host, server.sockets[0].getsockname()[1])
            _log.info("local console", address=self._address)
            yield
        finally:
            self._address, self._trouble = None, "the daemon stops"
            server.close()
            connections.abort()
            await server.wait_closed()

    def describe(self) -> dict[str, Any]:
        """As plain data, for `status`."""
        on = self._listen is not None
        return {"enabled": on, "address": self._address, "trouble": None if self._address or not on else self._trouble}

    # --- for tunnels: without the port, so that who comes through one is told from who is at this machine

    @property
    def is_offered(self) -> bool:
        """Whether there is a console for tunnels."""
        return self._listen is not None

    def invite(self, tunnel: str) -> str:
        """Path and fragment that let a browser in, once, through this tunnel and by no other way."""
        return f"/#ticket={self._door(tunnel).access.make_ticket()}"

    async def connect(self, tunnel: str) -> socket.socket:
        """A connection to the console that does not block, for this tunnel."""
        connections = self._door(tunnel).connections
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            theirs.setblocking(False)
            loop = asyncio.get_running_loop()

            def protocol() -> asyncio.StreamReaderProtocol:
                return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=MOST_HEADERS), connections.serve)

            await loop.connect_accepted_socket(protocol, theirs)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return ours

    def shut(self, tunnel: str) -> None:
        """This tunnel is over: its sessions count no more, and its connections end."""
        door = self._doors.pop(tunnel, None)
        if door is not None:
            door.connections.abort()

    def _door(self, tunnel: str) -> _Door:
        if tunnel not in self._doors:
            access = Access(time.monotonic)
            answering = Answering(self._facts, access, self._tunnels, through=tunnel)
            self._doors[tunnel] = _Door(access, Connections(answering.answer))
        return self._doors[tunnel]

    async def make_link(self, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the command `console` asks for: a link that opens the console once. Raises ConsoleNotServed.

        The ticket stands behind the ``#``: browsers send that part to nobody.
        """
        if self._address is None:
            raise ConsoleNotServed(cause=self._trouble)
        return {"link": f"http://{self._address}/#ticket={self._access.make_ticket()}", "lifetime_s": TICKET_S}
