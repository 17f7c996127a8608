"""What both programs' systemd units promise, and reading a unit as systemd does."""

import configparser
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HARDENING: Mapping[str, str] = {
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectControlGroups": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "LimitCORE": "0",
    "StateDirectoryMode": "0700",
}
"""The directives that close what neither program needs."""


def directives(unit: Path) -> dict[str, list[str]]:
    """The directives of [Service] with all their values, since systemd lets some be repeated."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, text = line.partition("=")
            found.setdefault(name, []).append(text)
    return found


def check_understood(unit: Path, program: str, folder: Path) -> None:
    """systemd itself finds nothing to object to; where there is none, the file has the form of a unit.

    ``program`` is the path in the unit, which need not be on this machine; ``folder`` is for a copy with another one.
    """
    if shutil.which("systemd-analyze") is None:
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(unit.read_text("utf-8"))
        assert set(parser.sections()) == {"Unit", "Service", "Install"}
        return
    copy = folder / unit.name
    copy.write_text(unit.read_text("utf-8").replace(program, sys.executable), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    # A name that systemd does not know is a message, not a failure.
    own = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert (done.returncode, own) == (0, [])
