"""What is sent through a way, and how long it takes. Blocking sockets, so that no event loop of ours is measured with it."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

_PIECE: Final = 1 << 20
_PATIENCE_S: Final = 60.0
MESSAGE: Final = bytes(64)


def connect(port: int, action: bytes, amount: int = 0) -> socket.socket:
    """A connection on which the target has been told what to do."""
    connection = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(order(action, amount))
    return connection


def order(action: bytes, amount: int = 0) -> bytes:
    """What tells the target what to do."""
    return action + amount.to_bytes(8, "big")


def download(port: int, amount: int) -> float:
    """Seconds until so many bytes have come."""
    begun, room = time.perf_counter(), bytearray(_PIECE)
    with connect(port, b"D", amount) as connection:
        while taken := connection.recv_into(room):
            amount -= taken
    if amount:
        raise AssertionError(f"{amount} bytes are missing")
    return time.perf_counter() - begun


def upload(port: int, amount: int) -> float:
    """Seconds until the target has so many bytes."""
    begun, piece, left = time.perf_counter(), memoryview(bytes(_PIECE)), amount
    with connect(port, b"U", amount) as connection:
        while left > 0:
            connection.sendall(piece[:left])
            left -= _PIECE
        if connection.recv(1) != b"!":
            raise AssertionError("the target did not take everything")
    return time.perf_counter() - begun


def together(transfer: object, port: int, amount: int, count: int) -> float:
    """Seconds until ``count`` transfers at once, of ``amount`` bytes together, are done."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(transfer, port, amount // count) for _ in range(count)]:  # type: ignore[arg-type,var-annotated]
            done.result()
    return time.perf_counter() - begun


def first_byte(port: int) -> float:
    """Seconds from the connect to the first byte of the target."""
    begun = time.perf_counter()
    with connect(port, b"G") as connection:
        if connection.recv(1) != b"!":
            raise AssertionError("the target did not greet")
        return time.perf_counter() - begun


def round_trips(port: int, seconds: float) -> list[float]:
    """Seconds that each of many small messages took there and back, one after the other."""
    taken: list[float] = []
    with connect(port, b"E") as connection:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            connection.sendall(MESSAGE)
            if len(connection.recv(len(MESSAGE), socket.MSG_WAITALL)) != len(MESSAGE):
                raise AssertionError("the echo broke off")
            taken.append(time.perf_counter() - begun)
    return taken


@contextmanager
def bulk(port: int, count: int) -> Iterator[None]:
    """``count`` endless downloads meanwhile."""
    over = threading.Event()
    connections = [connect(port, b"D", 1 << 40) for _ in range(count)]

    def drain(connection: socket.socket) -> None:
        room = bytearray(_PIECE)
        while not over.is_set() and connection.recv_into(room):
            pass

    threads = [threading.Thread(target=drain, args=(connection,), daemon=True) for connection in connections]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread, connection in zip(threads, connections, strict=True):
            thread.join(_PATIENCE_S)
            connection.close()
