"""`consent`: what operators ask for and somebody at this machine has to allow, and the answer."""

from __future__ import annotations

import argparse
import getpass
import json
import os
from typing import Any

from tenantry.daemon.commands.moments import ago, moment, shown
from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask

_TIMEOUT_S = 10.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the open questions, or answer one. Raises DaemonNotRunning, ConsentNotAsked, TunnelsOff."""
    if arguments.action in ("allow", "deny"):
        order = {"command": "tunnels.answer", "tunnel": arguments.tunnel, "who": _who()}
        answer = ask(settings.data, {**order, "yes": arguments.action == "allow"}, _TIMEOUT_S)
        print(f"{answer['tunnel']} {'may be opened' if arguments.action == 'allow' else 'is refused'}")
        return 0
    waiting = ask(settings.data, {"command": "tunnels"}, _TIMEOUT_S)["tunnels"]["waiting"]
    if arguments.json:
        print(json.dumps(waiting, indent=1))
    elif not waiting:
        print("Nobody asks for anything.")
    else:
        print("\n\n".join("\n".join(_lines(one)) for one in waiting))
        print("\nAnswer with `tenantry-daemon consent allow TUNNEL` or `deny TUNNEL`; the begin of the id is enough.")
    return 0


def _lines(one: dict[str, Any]) -> list[str]:
    return [
        f"tunnel     {one['tunnel']}",
        f"operator   {shown(one['operator'])} from {shown(one['address'] or 'an unknown address')}",
        f"to         {', '.join(one['targets']) or 'wherever the policy allows'}",
        f"reason     {shown(one['reason']) or 'none was given'}",
        f"asked      {ago(one['asked_ms'])}; the question is open until {moment(one['until_ms'])}",
        f"would end  {moment(one['tunnel_until_ms'])} at the latest",
    ]


def _who() -> str:
    """The user who says so, behind `sudo` the one who called it."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
