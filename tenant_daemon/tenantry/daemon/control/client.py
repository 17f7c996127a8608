"""The commands' end of the control socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenantry.daemon.control.address import bound_address
from tenantry.daemon.domain.failures import DaemonNotRunning
from tenantry.protocol.failures import CATALOGUE, InternalFault


def ask(folder: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The running daemon's answer. Raises DaemonNotRunning, or the failure with which it answers. ``timeout`` in seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            with bound_address(folder / "control.sock") as address:
                connection.connect(address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
            reply = json.loads(line)
        except (OSError, ValueError):
            raise DaemonNotRunning(folder=str(folder)) from None
    if not reply.pop("ok", False):
        raise CATALOGUE.get(reply.get("reason"), InternalFault)(**reply.get("metadata", {}))
    return dict(reply)
