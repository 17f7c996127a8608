"""`leave`: a dated goodbye."""

from __future__ import annotations

import argparse
import time

from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask
from tenantry.process.durations import InvalidDuration, parse_milliseconds
from tenantry.protocol.failures import FieldInvalid

_TIMEOUT_S = 15.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Ask the running daemon to leave, and wait until it has."""
    request = {"command": "leave", "reason": arguments.reason, "note": arguments.note}
    if arguments.duration is not None:
        try:
            duration_ms = parse_milliseconds(arguments.duration)
        except InvalidDuration as invalid:
            raise FieldInvalid(field="--for", problem=invalid.problem, expected="a duration such as 30m") from None
        request["until_ms"] = time.time_ns() // 1_000_000 + duration_ms
    reply = ask(settings.data, request, _TIMEOUT_S)
    if reply.get("stand_alone"):
        print("The daemon stops.")
    elif reply["delivered"]:
        print("The Master has been told; the daemon stops.")
    else:
        print("The daemon stops. The Master could not be told: there was no link.")
    return 0
