"""Ports for servers of tests that come back where they were."""

import random
import socket
from pathlib import Path

_LOWEST = 10_000
_HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")


def steady_port() -> int:
    """A port of 127.0.0.1 where nobody listens. The kernel gives it nobody by itself: it stays free while its server is away."""
    end = int(_HANDED_OUT.read_text().split()[0]) if _HANDED_OUT.exists() else 32_768
    while True:
        port = random.SystemRandom().randrange(_LOWEST, max(end, 2 * _LOWEST))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
