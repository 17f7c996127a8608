"""`records`: the newest alerts or notifications that this machine still has."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from typing import Any

from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask

_TIMEOUT_S = 10.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print them, oldest first. Raises DaemonNotRunning."""
    request = {"command": "records", "stream": arguments.stream, "limit": arguments.limit}
    records = ask(settings.data, request, _TIMEOUT_S)["records"]
    if arguments.json:
        print(json.dumps(records, indent=1))
    else:
        for record in records:
            print(_line(record))
    return 0


def _line(record: dict[str, Any]) -> str:
    moment = dt.datetime.fromtimestamp(record["timestamp_ms"] / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if "rule" in record:
        what = "raised" if record["firing"] else "ended"
        return f"{moment}  {record['severity']:<8}  {what}  {record['rule']}: {record['message']}"
    return f"{moment}  {record['level']:<8}  {record['source']}: {record['text']}"
