"""Addresses of unix sockets in folders with long names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 100  # sun_path of sockaddr_un has 108 bytes


@contextlib.contextmanager
def bound_address(path: Path) -> Iterator[str]:
    """What to bind or connect to for the socket ``path``: through an open folder where the path is too long. Raises OSError."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
