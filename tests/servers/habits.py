"""A TCP server for tests whose connections do what their first byte says: echo, give, take, fall silent, half-close, reset."""

import hashlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

PIECE: Final = 1 << 16
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with which a close is a reset."""


@dataclass
class Target:
    """Where it listens, and what it has seen."""

    port: int
    accepted: int = 0
    open: set[socket.socket] = field(default_factory=set, repr=False)
    finished: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0), repr=False)
    """Released for each connection that is over."""


@contextmanager
def running_target(host: str = "127.0.0.1") -> Iterator[Target]:
    """Serve on a free port of loopback, or of another address, until the block ends, a thread a connection."""
    with socket.create_server((host, 0), backlog=1024) as listener:
        target = Target(listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # the listener is closed: the test is over
                target.accepted += 1
                target.open.add(connection)
                threading.Thread(target=_serve, args=(target, connection), daemon=True).start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield target
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(10)
            for connection in list(target.open):
                connection.close()


def _serve(target: Target, connection: socket.socket) -> None:
    try:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            habit = connection.recv(1)
            if habit:
                HABITS[habit](connection)
    except OSError:
        pass  # reset by the other end, or closed with the test
    finally:
        target.open.discard(connection)
        target.finished.release()


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(PIECE):
        connection.sendall(data)


def _digest_all(connection: socket.socket) -> None:
    """Take everything up to the half-close, then answer with its SHA-256: what was sent before an end must not be lost."""
    digest = hashlib.sha256()
    while data := connection.recv(PIECE):
        digest.update(data)
    connection.sendall(digest.digest())


def _give_and_finish(connection: socket.socket) -> None:
    """Send a million bytes and half-close, then echo what still comes as one digest: it must see the other end's bytes."""
    connection.sendall(pattern(1_000_000))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(PIECE):
        pass


def _give_for_ever(connection: socket.socket) -> None:
    piece = pattern(PIECE)
    while True:
        connection.sendall(piece)


def _stand_still(connection: socket.socket) -> None:
    """Read nothing and write nothing until the connection is gone."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _reset_in_the_middle(connection: socket.socket) -> None:
    connection.sendall(pattern(PIECE))
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def pattern(size: int) -> bytes:
    """Bytes that a swapped or missing piece would change."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-size // 4)))[:size]


HABITS: Final[Mapping[bytes, Callable[[socket.socket], None]]] = {
    b"e": _echo,
    b"d": _digest_all,
    b"g": _give_and_finish,
    b"i": _give_for_ever,
    b"s": _stand_still,
    b"r": _reset,
    b"m": _reset_in_the_middle,
}
