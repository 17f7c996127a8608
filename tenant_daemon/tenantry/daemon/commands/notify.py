"""`notify`: a notification for the Master's operators."""

from __future__ import annotations

import argparse

from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask
from tenantry.protocol.failures import EXIT_WRONG_STATE

_TIMEOUT_S = 10.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Hand it to the running daemon; once it says so, it is on the disk."""
    request = {"command": "notify", "level": arguments.level, "source": arguments.source, "text": arguments.text}
    reply = ask(settings.data, request, _TIMEOUT_S)
    if reply["kept"]:
        return 0
    print(f"Not sent: in the state {reply['state']} a Tenant sends no notifications.")
    return EXIT_WRONG_STATE
