"""Services that tunnels lead to, on this machine: each behaves in one way."""

import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

PATIENCE_S = 30.0
Behaviour = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[int]:
    """The port of a service that does `behaviour` with each connection, in a thread each."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    here, _ = listener.accept()
                    threading.Thread(target=_serve, args=(here,), daemon=True).start()

        def _serve(here: socket.socket) -> None:
            with here, contextlib.suppress(OSError):
                here.settimeout(PATIENCE_S)
                behaviour(here)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def echo(here: socket.socket) -> None:
    """Send back what comes."""
    while data := here.recv(65_536):
        here.sendall(data)


def digest(here: socket.socket) -> None:
    """Read to the end of what the client sends, and only then answer with its SHA-256: needs half-close."""
    seen = hashlib.sha256()
    while data := here.recv(1 << 20):
        seen.update(data)
    here.sendall(seen.hexdigest().encode())


def reset(here: socket.socket) -> None:
    """Take a byte and reset the connection."""
    here.recv(1)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def nobody() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def read_all(here: socket.socket) -> bytes:
    """Everything until the peer has said all."""
    here.settimeout(PATIENCE_S)
    parts = []
    while data := here.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)
