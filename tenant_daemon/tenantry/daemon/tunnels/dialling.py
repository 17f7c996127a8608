"""Dialling targets: a name is resolved once, every address it has is judged, and an address that was judged is dialled.

The name is in nobody's hands after that: a second look could find another address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from tenantry.daemon.domain.tunnel_policy import TunnelPolicy, leads_to_consent, may_be_asked, may_be_dialled
from tenantry.protocol.addresses import Address, read_address, read_host
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.targets import Target

RESOLVE_S: Final = 5.0
DIAL_S: Final = 10.0
"""For all addresses of a target together."""
MOST_RESOLVING: Final = 16
LOOK_AGAIN_S: Final = 60.0
_MOST_ADDRESSES: Final = 8
_KEEPALIVE_S: Final = 60

_UNDER_WAY: Final = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, errno.EINTR}
_ENDS: Final = {
    errno.ECONNREFUSED: TunnelEnd.TARGET_REFUSED,
    errno.ECONNRESET: TunnelEnd.TARGET_REFUSED,
    errno.ETIMEDOUT: TunnelEnd.TARGET_TIMED_OUT,
    errno.EMFILE: TunnelEnd.LIMIT,
    errno.ENFILE: TunnelEnd.LIMIT,
    errno.ENOBUFS: TunnelEnd.LIMIT,
    errno.ENOMEM: TunnelEnd.LIMIT,
}
_TELLING: Final = (TunnelEnd.LIMIT, TunnelEnd.TARGET_REFUSED, TunnelEnd.TARGET_TIMED_OUT, TunnelEnd.TARGET_UNREACHABLE)


class DialFailed(Exception):
    """A target was not reached, or may not be; ``end`` says why, ``detail`` more of it for the operator (may be empty)."""

    def __init__(self, end: TunnelEnd, detail: str = "") -> None:
        super().__init__(detail or end.describe())
        self.end = end
        self.detail = detail


Resolve = Callable[[str, int], list[str]]


def resolve_by_system(name: str, port: int) -> list[str]:
    """The addresses of a name, as this machine finds them. Blocks; raises OSError."""
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class Dialler:
    """Opens connections to targets."""

    def __init__(self, resolve: Resolve = resolve_by_system) -> None:
        self._resolve = resolve
        self._resolving = 0

    async def dial(
        self,
        policy: TunnelPolicy,
        target: Target,
        forbidden: Callable[[], Awaitable[Collection[Address]]],
        *,
        consented: bool,
    ) -> socket.socket:
        """A connected socket that does not block. Raises DialFailed; of what is not allowed nothing more is said.

        ``forbidden``: addresses that count only where the policy writes them out. ``consented``: somebody at this machine has said
        yes to the tunnel; where nobody has, no address that is listed with consent is dialled, whatever it was asked for as.
        """
        if not may_be_asked(policy, target) or (not consented and leads_to_consent(policy, target, ())):
            raise DialFailed(TunnelEnd.POLICY)
        host = read_host(target.host)
        addresses = [host] if host is not None and not isinstance(host, str) else await self.look_up(target)
        if not may_be_dialled(policy, target, addresses, await forbidden()):
            raise DialFailed(TunnelEnd.POLICY)
        if not consented and leads_to_consent(policy, target, addresses):
            raise DialFailed(TunnelEnd.POLICY)
        return await _connect(addresses[:_MOST_ADDRESSES], target.port)

    async def look_up(self, target: Target) -> list[Address]:
        """The addresses of a target's name. Raises DialFailed, for one that cannot be judged too."""
        if self._resolving >= MOST_RESOLVING:
            raise DialFailed(TunnelEnd.LIMIT, "too many names are being resolved")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def work() -> None:
            # A thread of its own, which nobody waits for at the end of the process: a resolver can take minutes, and the few threads
            # of the loop are for the disk and the probes.
            found: list[str] | OSError
            try:
                found = self._resolve(target.host, target.port)
            except OSError as error:
                found = error
            except UnicodeError:
                found = socket.gaierror(socket.EAI_NONAME, "no name")
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, found)

        def settle(found: list[str] | OSError) -> None:
            self._resolving -= 1
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(DialFailed(TunnelEnd.TARGET_NOT_FOUND))
            else:
                answer.set_result(found)

        try:
            threading.Thread(target=work, name="resolver", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            raise DialFailed(TunnelEnd.LIMIT, "no name can be resolved now") from None
        self._resolving += 1
        try:
            async with asyncio.timeout(RESOLVE_S):
                texts = await answer
        except TimeoutError:
            raise DialFailed(TunnelEnd.TARGET_NOT_FOUND, "its name was not resolved in time") from None
        addresses = [read_address(text) for text in dict.fromkeys(texts)]
        known = [one for one in addresses if one is not None]
        if len(known) < len(addresses):
            raise DialFailed(TunnelEnd.POLICY)
        if not known:
            raise DialFailed(TunnelEnd.TARGET_NOT_FOUND)
        return known


async def _connect(addresses: list[Address], port: int) -> socket.socket:
    ends: list[TunnelEnd] = []
    until = time.monotonic() + DIAL_S
    for number, address in enumerate(addresses):
        left_s = (until - time.monotonic()) / (len(addresses) - number)
        try:
            return await _connect_once(address, port, left_s)
        except TimeoutError:
            ends.append(TunnelEnd.TARGET_TIMED_OUT)
        except OSError as error:
            ends.append(_ENDS.get(error.errno or 0, TunnelEnd.TARGET_UNREACHABLE))
    raise DialFailed(min(ends, key=_TELLING.index))


async def _connect_once(address: Address, port: int, limit_s: float) -> socket.socket:
    """Raises OSError, TimeoutError."""
    connection = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
        problem = connection.connect_ex((str(address), port))
        if problem in _UNDER_WAY:
            if not _is_connected(connection):  # what is near may be there at once
                async with asyncio.timeout(limit_s):
                    await _until_writable(connection)
            problem = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        if connection.getsockname() == connection.getpeername():
            # To a free port of this machine the kernel can connect a socket to itself.
            raise OSError(errno.ECONNREFUSED, "nobody but ourselves")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_connected(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


async def _until_writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(connection, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(connection)


class MasterAddresses:
    """Where this machine reaches its Master. Names are looked up now and then; what was found last counts meanwhile."""

    def __init__(self, dialler: Dialler, hosts: Iterable[str], port: int = 443) -> None:
        read = {read_host(host) for host in hosts}
        self._dialler = dialler
        self._fixed = frozenset(one for one in read if one is not None and not isinstance(one, str))
        self._names = tuple(Target(one, port) for one in sorted(one for one in read if isinstance(one, str)))
        self._found: frozenset[Address] = frozenset()
        self._looked_at = -LOOK_AGAIN_S

    async def __call__(self) -> frozenset[Address]:
        """All of them."""
        if self._names and time.monotonic() - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = time.monotonic()
            found: set[Address] = set()
            for name in self._names:
                with contextlib.suppress(DialFailed):
                    found.update(await self._dialler.look_up(name))
            self._found = frozenset(found) or self._found
        return self._fixed | self._found
