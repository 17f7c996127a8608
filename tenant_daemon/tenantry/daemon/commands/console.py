"""`console`: a link that opens the running daemon's local console."""

from __future__ import annotations

import argparse
import json

from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask
from tenantry.process.durations import format_milliseconds

_TIMEOUT_S = 10.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print it. Raises DaemonNotRunning, ConsoleNotServed."""
    answer = ask(settings.data, {"command": "console"}, _TIMEOUT_S)
    if arguments.json:
        print(json.dumps(answer, indent=1))
        return 0
    print(answer["link"])
    lifetime = format_milliseconds(round(answer["lifetime_s"] * 1000))
    print(f"It opens the console once, within {lifetime}, in a browser on this machine.")
    return 0
