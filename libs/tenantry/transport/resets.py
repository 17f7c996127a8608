"""Connections that end with a reset: the other side learns that not everything was said."""

import contextlib
import socket
import struct
from typing import Final

_NO_LINGER: Final = struct.pack("ii", 1, 0)


def reset_at_close(connection: socket.socket) -> None:
    """Let its close be a reset; of a kind that has no such thing, or closed already, it stays as it is."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
