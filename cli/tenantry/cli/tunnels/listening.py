"""What listens on this machine for connections that go through a tunnel."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from tenantry.cli.troubles import AddressUnusable
from tenantry.cli.tunnels.spelling import Place
from tenantry.transport.resets import reset_at_close

BACKLOG: Final = 512
_NO_DESCRIPTORS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_REST_S: Final = 0.2
_PRIVILEGED: Final = 1024


def listen_at(place: Place) -> socket.socket:
    """A listening socket. Raises AddressUnusable."""
    listener = socket.socket(socket.AF_INET6 if ":" in place.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((place.address, place.port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = "Choose another port in front, as in 8080:HOST:PORT; 0 is any that is free."
        if error.errno == errno.EACCES and place.port < _PRIVILEGED:
            hint = f"Ports below {_PRIVILEGED} are for the administrator of this machine. {hint}"
        raise AddressUnusable(
            f"nothing can listen at {place}: {os.strerror(error.errno or 0)}",
            hint,
            {"address": place.address, "port": str(place.port)},
        ) from None
    return listener


def place_of(listener: socket.socket) -> Place:
    """Where it listens."""
    address, port = listener.getsockname()[:2]
    return Place(address, port)


async def serve(
    listener: socket.socket,
    serve_one: Callable[[socket.socket, Place], Awaitable[None]],
    admits: Callable[[socket.socket, Place], bool],
) -> None:
    """Hand each connection with its peer to `serve_one`, which closes it, until cancelled. What it raises ends all.

    Those that `admits` does not let in are reset.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                here, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    continue  # the peer went away before it was accepted
                # The kernel would report it again at once, for as long as others keep theirs.
                await asyncio.sleep(_REST_S)
                continue
            place = Place(peer[0], peer[1])
            if admits(here, place):
                group.create_task(_closing(here, serve_one(here, place)))
            else:
                reset_at_close(here)
                here.close()


async def _closing(here: socket.socket, service: Awaitable[None]) -> None:
    try:
        await service
    finally:
        here.close()
