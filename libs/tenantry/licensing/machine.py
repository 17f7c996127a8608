"""The fingerprint of a machine: the same after each restart, another one on each machine, and nothing that identifies it elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Final

from tenantry.process.files import read_private, write_private

MACHINE_ID: Final = Path("/etc/machine-id")
_APPLICATION: Final = b"tenantry licence fingerprint v1"
_ID = re.compile(r"[0-9a-f]{32}")


def machine_fingerprint(folder: Path, machine_id: Path = MACHINE_ID) -> str:
    """The fingerprint to which a Tenant's or a stand-alone licence is bound.

    Made from the machine's id as its manual asks for: keyed with our own purpose, so that the id itself is not given away. A
    machine without one gets a random id in ``folder``. Raises OSError, FileExposed.
    """
    return f"machine-{hmac.new(_identity(folder, machine_id), _APPLICATION, hashlib.sha256).hexdigest()}"


def master_fingerprint(instance_id: str, ca_fingerprint: str) -> str:
    """The fingerprint to which a Master's licence is bound: of its instance id and its first authority."""
    identity = f"{instance_id} {ca_fingerprint}".encode()
    return f"master-{hashlib.sha256(identity).hexdigest()}"


def _identity(folder: Path, machine_id: Path) -> bytes:
    try:
        text = machine_id.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if _ID.fullmatch(text) and text.strip("0"):
        return bytes.fromhex(text)
    own = folder / "machine-id"
    try:
        made = read_private(own).decode("ascii").strip()
        if _ID.fullmatch(made):
            return bytes.fromhex(made)
    except FileNotFoundError:
        pass
    made = secrets.token_hex(16)
    write_private(own, f"{made}\n".encode("ascii"))
    return bytes.fromhex(made)
