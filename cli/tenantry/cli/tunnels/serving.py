"""Forwards and the SOCKS proxy: what listens here, for as long as its tunnel can be held."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.diagnosis import diagnose
from tenantry.cli.escaping import escape
from tenantry.cli.troubles import Trouble
from tenantry.cli.tunnels.connecting import Connection
from tenantry.cli.tunnels.holding import HeldTunnel, Wish
from tenantry.cli.tunnels.listening import listen_at, place_of, serve
from tenantry.cli.tunnels.local_users import is_own
from tenantry.cli.tunnels.running import tell, together
from tenantry.cli.tunnels.socks import Reply, SocksConversation, answer
from tenantry.cli.tunnels.spelling import Forward, Place
from tenantry.process.notify import ServiceNotifier
from tenantry.protocol.failures import (
    Failure,
    TargetNotFound,
    TargetRefused,
    TargetTimedOut,
    TargetUnreachable,
    TenantNotConnected,
    TunnelNotAllowed,
)
from tenantry.protocol.tunnels.targets import Target

HANDSHAKE_S: Final = 30.0
_REPLIES: Final[tuple[tuple[type[Failure], Reply], ...]] = (
    (TunnelNotAllowed, Reply.NOT_ALLOWED),
    (TargetRefused, Reply.REFUSED),
    (TargetTimedOut, Reply.TIMED_OUT),
    (TargetUnreachable, Reply.NETWORK_UNREACHABLE),
    (TargetNotFound, Reply.HOST_UNREACHABLE),
    (TenantNotConnected, Reply.NETWORK_UNREACHABLE),
)


@dataclass(frozen=True, slots=True)
class Listening:
    """What listens where, and where it leads: a target, or wherever a SOCKS client asks for."""

    tunnel_id: str
    at: Place
    target: Target | None
    console_path: str = field(default="", repr=False)
    """Of a Tenant's console: path and fragment that let a browser in, once."""


async def forward(
    master: Master,
    wish: Wish,
    forwards: Iterable[Forward],
    announce: Callable[[Listening], None],
    *,
    any_user: bool = False,
) -> None:
    """Serve forwards until cancelled, or until the tunnel is over for good, which raises why.

    On loopback for this user alone, unless it is for `any_user` of this machine. `announce` is told of each as soon as
    connections can go through, and then a service manager that waits for it. Raises AddressUnusable before anything is asked of
    the Master.
    """
    with ExitStack() as stack:
        listeners = [(stack.enter_context(listen_at(one.listen)), one) for one in forwards]
        async with together() as group:
            held = HeldTunnel(master, wish, tell, again=True)
            group.create_task(held.hold())
            leave = await held.leave()
            for listener, one in listeners:
                announce(Listening(leave.tunnel_id, place_of(listener), one.target, leave.console_path))
                admits = _admit_all if any_user or one.listen.open_to_others else _admit_own
                group.create_task(serve(listener, _Forwarder(master, held, one.target).serve, admits))
            ServiceNotifier.from_environment().ready(f"tunnel {leave.tunnel_id}")


async def proxy(
    master: Master, wish: Wish, place: Place, announce: Callable[[Listening], None], *, any_user: bool = False
) -> None:
    """Serve SOCKS5 until cancelled, or until the tunnel is over for good, which raises why.

    For this user alone, unless it is for `any_user` of this machine. `announce` is told as soon as connections can go through.
    Raises AddressUnusable before anything is asked of the Master.
    """
    with listen_at(place) as listener:
        async with together() as group:
            held = HeldTunnel(master, wish, tell, again=True)
            group.create_task(held.hold())
            leave = await held.leave()
            announce(Listening(leave.tunnel_id, place_of(listener), None))
            group.create_task(serve(listener, _Proxy(master, held).serve, _admit_all if any_user else _admit_own))
            ServiceNotifier.from_environment().ready(f"tunnel {leave.tunnel_id}")


class _Forwarder:
    """Connects what comes to one listening socket."""

    def __init__(self, master: Master, held: HeldTunnel, target: Target) -> None:
        self._master = master
        self._held = held
        self._target = target

    async def serve(self, here: socket.socket, peer: Place) -> None:
        leave = await self._held.leave()
        try:
            await Connection(self._master, leave, self._target).relay(here)
        except (Failure, Trouble) as error:
            _tell_of(error, peer, self._target)


class _Proxy:
    """Connects what comes to the SOCKS proxy."""

    def __init__(self, master: Master, held: HeldTunnel) -> None:
        self._master = master
        self._held = held

    async def serve(self, here: socket.socket, peer: Place) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                target = await _asked(here)
        except (OSError, TimeoutError):
            return
        if target is None:
            return
        leave = await self._held.leave()
        connection = Connection(self._master, leave, target)
        try:
            await connection.joined()
        except (Failure, Trouble) as error:
            _tell_of(error, peer, target)
            await _last_words(here, answer(reply_to(error)))
            return
        try:
            await loop.sock_sendall(here, answer(Reply.SUCCEEDED))
            await connection.relay(here)
        except OSError:
            connection.close()
        except (Failure, Trouble) as error:
            _tell_of(error, peer, target)


def reply_to(error: Exception) -> Reply:
    """What a SOCKS client is told of a connection that did not come about."""
    return next((reply for kind, reply in _REPLIES if isinstance(error, kind)), Reply.GENERAL_FAILURE)


def describe(listening: Listening, tenant: str) -> str:
    """A line for people, escaped."""
    if listening.target is None:
        return escape(f"SOCKS5 on {listening.at}, leads into the network of {tenant}")
    return escape(f"Listening on {listening.at}, leads to {listening.target} at {tenant}")


def warnings(places: Sequence[Place]) -> list[str]:
    """What to say about places where others than this machine get in."""
    return [
        f"Warning: whoever reaches {place.address} of this machine can use the tunnel in your name."
        for place in places
        if place.open_to_others
    ]


def _admit_all(_here: socket.socket, _peer: Place) -> bool:
    return True


def _admit_own(here: socket.socket, peer: Place) -> bool:
    own = is_own(here)
    if not own:
        tell(f"Connection from {peer} refused: it is another user's of this machine, or over already.")
    return own


async def _asked(here: socket.socket) -> Target | None:
    loop = asyncio.get_running_loop()
    conversation = SocksConversation()
    while conversation.wanted:
        conversation.receive(await loop.sock_recv(here, conversation.wanted))
        if outgoing := conversation.data_to_send():
            await loop.sock_sendall(here, outgoing)
    return conversation.asked


async def _last_words(here: socket.socket, words: bytes) -> None:
    try:
        await asyncio.get_running_loop().sock_sendall(here, words)
        here.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _tell_of(error: Exception, peer: Place, target: Target) -> None:
    tell(escape(f"Connection from {peer} to {target}: {diagnose(error).message}"))
