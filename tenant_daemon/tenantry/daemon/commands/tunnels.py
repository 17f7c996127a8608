"""`tunnels`: the open ones, an end for one, the log, and a check of the policy."""

from __future__ import annotations

import argparse
import json
from collections import deque
from typing import Any

from tenantry.daemon.commands.moments import ago, moment, shown
from tenantry.daemon.config import Settings
from tenantry.daemon.control.client import ask
from tenantry.daemon.domain.failures import FileUnusable, TunnelsOff
from tenantry.protocol.failures import EXIT_DENIED, EXIT_USAGE

_TIMEOUT_S = 10.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Raises DaemonNotRunning, TunnelNotHeld, TunnelsOff, FileUnusable, FieldInvalid."""
    match arguments.action:
        case "close":
            answer = ask(settings.data, {"command": "tunnels.close", "tunnel": arguments.tunnel}, _TIMEOUT_S)
            print(f"{answer['tunnel']} is closed")
            return 0
        case "log":
            return _show_log(arguments, settings)
        case "check":
            return _check(arguments, settings)
        case _:
            return _list(arguments, settings)


def _list(arguments: argparse.Namespace, settings: Settings) -> int:
    held = ask(settings.data, {"command": "tunnels"}, _TIMEOUT_S)["tunnels"]["held"]
    if arguments.json:
        print(json.dumps(held, indent=1))
        return 0
    if not held:
        print("No tunnel is open.")
    for one in held:
        state = "open" if one["state"] == "open" else "waits for consent"
        since = one["open_ms"] or one["asked_ms"]
        print(f"{one['tunnel']}  {shown(one['operator'])}  {state} {ago(since)}, until {moment(one['until_ms'])}")
        print(
            f"    to {', '.join(one['targets']) or 'wherever the policy allows'}; reason: {shown(one['reason']) or 'none'}"
        )
        traffic = f"{one['bytes_up']} bytes to targets, {one['bytes_down']} from them"
        print(f"    {one['open_connections']} of {one['connections']} connections open; {traffic}")
    return 0


def _show_log(arguments: argparse.Namespace, settings: Settings) -> int:
    from tenantry.daemon.tunnels.log import CONNECTIONS, TUNNELS, read_log

    name = CONNECTIONS if arguments.connections else TUNNELS
    try:
        lines = [
            one
            for one in read_log(settings.data, name)
            if str(one.get("tunnel", "")).startswith(arguments.tunnel.lower())
        ]
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise FileUnusable(path=str(settings.data / "tunnels"), problem=problem) from None
    for line in deque(lines, maxlen=max(1, arguments.limit)):
        print(json.dumps(line) if arguments.json else shown(_line(line)))
    return 0


def _line(one: dict[str, Any]) -> str:
    text = f"{moment(one.get('time_ms', 0))}  {one.get('event', ''):<10}  {one.get('tunnel', '')}"
    targets = one.get("target") or ", ".join(one.get("targets", []))
    words = [
        one.get("operator", ""),
        f"to {targets}" if targets else "",
        f"reason: {one['reason']}" if one.get("reason") else "",
        f"consent of {one['consented_by']}" if one.get("consented_by") else "",
        f"{one['bytes_up']} bytes up, {one['bytes_down']} down" if "bytes_up" in one else "",
        str(one.get("end", "")).replace("_", " "),
        one.get("detail", ""),
    ]
    return "  ".join([text, "; ".join(word for word in words if word)])


def _check(arguments: argparse.Namespace, settings: Settings) -> int:
    """Ends with 2 when the file is wrong, with 6 when a target would not be allowed. Names are not resolved for it."""
    from tenantry.daemon.domain.tunnel_policy import may_be_asked
    from tenantry.daemon.tunnels.policy_file import PolicyFile
    from tenantry.protocol.tunnels.targets import parse_target

    if settings.tunnels_policy is None:
        raise TunnelsOff
    targets = [parse_target(text) for text in arguments.target]
    read = PolicyFile(settings.tunnels_policy.path, must_exist=settings.tunnels_policy.named).read()
    if read.trouble:
        print(f"{settings.tunnels_policy.path}: {read.trouble}; no tunnel is allowed")
        return EXIT_USAGE
    if not read.exists:
        print(f"{settings.tunnels_policy.path} does not exist: the local console is allowed and nothing else")
    elif not targets:
        print(f"{settings.tunnels_policy.path} can be used; it has {len(read.policy.allowed)} entries")
    code = 0
    for target in targets:
        allowed = may_be_asked(read.policy, target)
        print(f"{target}  {'allowed, as far as can be said without resolving' if allowed else 'not allowed'}")
        code = code if allowed else EXIT_DENIED
    return code
