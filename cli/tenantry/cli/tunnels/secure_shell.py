"""The command line of OpenSSH that reaches a machine at a Tenant through a tunnel of this very program. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.cli.troubles import InputInvalid
from tenantry.cli.tunnels.spelling import AT_THE_TENANT
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.tunnels.targets import Target, make_target, parse_target

DEFAULT_PORT: Final = 22
_HINT: Final = "Write it like admin@db.internal, db.internal:2222, admin@[fd00::7]:22, or admin@ for the Tenant itself."


@dataclass(frozen=True, slots=True)
class Destination:
    """Where ssh goes: a target at the Tenant, and as whom; without a user ssh decides."""

    user: str
    target: Target


def parse_destination(text: str) -> Destination:
    """``[USER@][HOST[:PORT]]``; without a host the Tenant's own machine. Raises InputInvalid."""
    user, sign, place = text.rpartition("@")
    if (sign and not user) or user.startswith("-") or not user.isprintable():
        raise InputInvalid(f"{user!r} in {text!r} is not a user", _HINT)
    try:
        return Destination(user, _target(place))
    except FieldInvalid as invalid:
        raise InputInvalid(f"{text!r} is not a destination: {invalid.describe()}", _HINT) from None


def ssh_command(
    ssh: str, proxy: Sequence[str], tenant: str, destination: Destination, arguments: Sequence[str]
) -> list[str]:
    """What to run. `proxy` is `tunnel stdio` of this program with its options; `tenant` is a GUID.

    The options come first, and with ssh the first one wins. Each target of each Tenant has a name of its own among the known hosts,
    since many of them have the same address; and connections are never shared with those that ssh holds by the names of hosts.
    """
    target = destination.target
    # `exec` by ssh's shell, and a percent sign is one of ssh's own tokens.
    command = shlex.join([*proxy, tenant, str(target)]).replace("%", "%%")
    options = {
        "ProxyCommand": command,
        "HostKeyAlias": f"{target.host}.{target.port}.{tenant}.tenantry",
        "ControlPath": "none",
        "CanonicalizeHostname": "no",
    }
    words = [ssh, *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    words += ["-p", str(target.port)]
    if destination.user:
        words += ["-l", destination.user]
    return [*words, target.host, *arguments]


def _target(place: str) -> Target:
    if not place:
        return Target(AT_THE_TENANT, DEFAULT_PORT)
    if place.startswith("[") and place.endswith("]"):
        return make_target(place[1:-1], DEFAULT_PORT)
    if ":" not in place:
        return make_target(place, DEFAULT_PORT)
    return parse_target(place)
