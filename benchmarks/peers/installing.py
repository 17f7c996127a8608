"""Where peers come from. Nothing is installed unless somebody asks for it."""

import os
import shutil
import subprocess
from typing import Final

PACKAGES: Final = ("prometheus", "victoria-metrics", "zabbix-server-pgsql", "postgresql", "openssh-server")
APT: Final = f"apt-get update && RUNLEVEL=1 apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"


class PeerMissing(Exception):
    """A peer cannot be measured here; the text says why."""


def find(program: str) -> str:
    """The path of a peer's program. Raises PeerMissing."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise PeerMissing(f"{program} is not installed; `python -m benchmarks --install-peers` runs: {APT}")
    return found


def install() -> int:
    """Install all peers from Debian's packages, without starting their services; the exit code of apt-get."""
    # RUNLEVEL=1 keeps the packages' own services from starting.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES)):
        done = subprocess.run(["apt-get", *command], env=environment, check=False)
        if done.returncode:
            return done.returncode
    return 0
