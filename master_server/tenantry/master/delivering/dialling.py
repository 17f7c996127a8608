"""Connections to receivers: a name is resolved once, each address is judged, and what was judged is what is dialled."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import psutil

from tenantry.master.domain.destinations import DestinationPolicy
from tenantry.master.domain.receivers import Destination
from tenantry.protocol.addresses import Address, read_address

RESOLVERS: Final = 16
MAX_ADDRESSES: Final = 8
"""So many of a name's addresses are looked at."""
READ_LIMIT: Final = 16_384
NEXT_S: Final = 3.0
"""After so long without an answer the next address is dialled."""
_TRUST_S: Final = 3_600

Resolver = Callable[[str, int, socket.SocketKind], list[str]]


class NotReached(Exception):
    """There is no connection; the message says why, and no more than whoever wrote the receiver may know."""


def resolve(host: str, port: int, kind: socket.SocketKind) -> list[str]:
    """The addresses of a name, as the machine's resolver has them. Blocks. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=kind)]


def own_addresses() -> frozenset[Address]:
    """The addresses of this machine."""
    listed = (one.address.partition("%")[0] for entry in psutil.net_if_addrs().values() for one in entry)
    return frozenset(address for address in map(read_address, listed) if address is not None)


@dataclass(frozen=True, slots=True)
class Streams:
    """An open connection over which something is said."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Dialler:
    """Makes connections within a policy. Has threads of its own: resolvers that hang keep nobody else from working."""

    def __init__(
        self,
        policy: DestinationPolicy,
        resolver: Resolver = resolve,
        own: Callable[[], Collection[Address]] = own_addresses,
    ) -> None:
        self._policy = policy
        self._resolve = resolver
        self._own = own
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="receiver names")

    def close(self) -> None:
        """No more names are resolved."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def connect(self, destination: Destination) -> socket.socket:
        """A connected TCP socket. Raises NotReached."""
        failure = "there is no address that answers"
        addresses = await self._judged(destination, socket.SOCK_STREAM)
        for address in addresses:
            connection = _socket(address, socket.SOCK_STREAM)
            try:
                # One that says nothing must not use up the time of the others.
                async with asyncio.timeout(None if address is addresses[-1] else NEXT_S):
                    await asyncio.get_running_loop().sock_connect(connection, (str(address), destination.port))
            except OSError as error:
                connection.close()
                failure = why(error)
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise NotReached(f"no connection to {_place(destination)}: {failure}")

    async def datagrams(self, destination: Destination) -> socket.socket:
        """A UDP socket that sends there. Raises NotReached."""
        address = (await self._judged(destination, socket.SOCK_DGRAM))[0]
        sender = _socket(address, socket.SOCK_DGRAM)
        try:
            sender.connect((str(address), destination.port))
        except OSError as error:
            sender.close()
            raise NotReached(f"nothing can be sent to {_place(destination)}: {why(error)}") from None
        return sender

    @contextlib.asynccontextmanager
    async def streams(self, destination: Destination, context: ssl.SSLContext | None) -> AsyncIterator[Streams]:
        """A connection, with TLS where there is a context; cut off at the end of the block. Raises NotReached."""
        connection = await self.connect(destination)
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection,
                ssl=context,
                server_hostname=destination.host if context is not None else None,
                limit=READ_LIMIT,
            )
        except OSError as error:
            raise NotReached(f"{_place(destination)}: {why(error)}") from None
        try:
            yield Streams(reader, writer)
        finally:
            writer.transport.abort()

    async def _judged(self, destination: Destination, kind: socket.SocketKind) -> list[Address]:
        """Where connections may go; never empty. An address that is not permitted is passed over, and so is never dialled."""
        listed = await self._addresses(destination, kind)
        own = self._own()
        found = [address for address in listed if self._policy.permits(address, own)]
        if not found:
            raise NotReached(
                f"{_place(destination)} leads to an address to which this Master makes no connections (deliveries.allowed_networks)"
            )
        return found

    async def _addresses(self, destination: Destination, kind: socket.SocketKind) -> list[Address]:
        try:
            return [ipaddress.ip_address(destination.host)]
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        try:
            listed = await loop.run_in_executor(self._threads, self._resolve, destination.host, destination.port, kind)
        except (OSError, UnicodeError):
            raise NotReached(f"the name {destination.host} is not known") from None
        found = [address for text in dict.fromkeys(listed[:MAX_ADDRESSES]) if (address := read_address(text))]
        if not found:
            raise NotReached(f"the name {destination.host} has no address")
        return found


def tls_context(authorities: str) -> ssl.SSLContext:
    """What a server's certificate is checked against: these authorities (PEM), or those of the machine, read again each hour.

    Raises NotReached.
    """
    try:
        return _context(authorities, int(time.monotonic() // _TRUST_S))
    except (ssl.SSLError, ValueError):
        raise NotReached("the authorities of the receiver are not certificates (PEM)") from None


@lru_cache(maxsize=64)
def _context(authorities: str, _hour: int) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authorities or None)


def _socket(address: Address, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind)
    made.setblocking(False)
    return made


def _place(destination: Destination) -> str:
    host = f"[{destination.host}]" if ":" in destination.host else destination.host
    return f"{host}:{destination.port}"


def why(error: OSError) -> str:
    """What went wrong with a connection, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or 'the handshake failed'}"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses connections"
    return error.strerror or type(error).__name__
