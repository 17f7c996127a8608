"""The event loop of a Master: uvloop, woken by gRPC once for all that has come, and not once for each message.

gRPC's thread writes a byte into a socket for each event. Its reader in the loop takes one byte and then all events that wait, so each
of the other bytes wakes the loop for nothing: two system calls and a callback a message. This loop takes those bytes out before.
"""

import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any, Final

import uvloop

_READER: Final = "_handle_events"
"""The method of gRPC's completion queue that reads its socket."""
_INT: Final = struct.Struct("i")


class WokenLoop(uvloop.Loop):
    """uvloop, but for the reader of gRPC's completion queue. Where gRPC should change it, nothing is taken out."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Call ``callback`` when ``fd`` can be read."""
        reader = getattr(callback, "func", callback)
        if isinstance(fd, socket.socket) and getattr(reader, "__name__", "") == _READER:
            super().add_reader(fd, _read_last, fd, callback, *args)
        else:
            super().add_reader(fd, callback, *args)


def _read_last(woken: socket.socket, callback: Callable[..., Any], *args: Any) -> None:
    """Take out all bytes but one, for which ``callback`` looks: an event is in its queue before its byte is here."""
    (waiting,) = _INT.unpack(fcntl.ioctl(woken, termios.FIONREAD, bytes(_INT.size)))
    if waiting > 1:
        woken.recv(waiting - 1)
    callback(*args)
