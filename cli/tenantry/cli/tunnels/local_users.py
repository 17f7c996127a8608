"""Whose connection it is that came in over loopback: on a machine that several people use, a tunnel is its operator's alone.

Linux tells for each TCP connection of its own whose it is (sock_diag(7)); elsewhere nobody can be told apart, as with `ssh -L`.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Final

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_ASKED: Final = struct.Struct("=BBBxI")
_PORTS: Final = struct.Struct("!HH")
_ANYWHERE: Final = bytes(4) + b"\xff" * 8  # no interface, no cookie
_OWNER: Final = struct.Struct("=II")
_OWNER_AT: Final = _HEADER.size + 4 + 48 + 12  # behind what names the socket, and its timer and queues
_ANY_STATE: Final = 0xFFFFFFFF
_PATIENCE_S: Final = 1.0


def is_own(here: socket.socket) -> bool:
    """Whether an accepted connection over loopback is of this process's user, or of root, who may do everything here anyway.

    True where the system does not tell. A connection that its owner has closed already is nobody's.
    """
    if sys.platform != "linux":
        return True
    try:
        answer = _ask(here)
    except OSError:
        return True  # the way of asking is closed here, by a container for instance
    if len(answer) < _OWNER_AT + _OWNER.size or _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
        return False
    user, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    return inode != 0 and user in (0, os.getuid())


def _ask(here: socket.socket) -> bytes:
    """What the kernel says about the other end of a connection. Raises OSError."""
    near, far = here.getsockname(), here.getpeername()
    addresses = b"".join(
        socket.inet_pton(here.family, one[0].partition("%")[0]).ljust(16, b"\0") for one in (far, near)
    )
    name = _PORTS.pack(far[1], near[1]) + addresses + _ANYWHERE
    asked = _ASKED.pack(here.family, socket.IPPROTO_TCP, 0, _ANY_STATE) + name
    message = _HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST, 1, 0) + asked
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE_S)
        kernel.sendto(message, (0, 0))
        return kernel.recv(4096)
