"""``python -m tests.tooling.programs``: install what tests run of other people's programs, at once and before any test begins.

Where nobody may install them, or Debian's packages are not to be had, this says so: the tests that need them are skipped, which CI
counts as failures.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.servers import rsyslog
from tests.servers.chromium import find_chromium
from tests.servers.packages import find_program

PROGRAMS: Final[Mapping[str, str]] = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "iperf3": "iperf3",
    "curl": "curl",
    "ip": "iproute2",
}
"""Programs, and the packages of Debian that have them."""
OTHERS: Final[Mapping[tuple[str, ...], Callable[[], str | Path | None]]] = {
    ("chromium",): find_chromium,
    rsyslog.PACKAGES: rsyslog.find_program,
}
"""Packages, and what finds the programs that are used of them."""


def missing() -> list[str]:
    """The packages whose programs are not here."""
    packages = [package for program, package in PROGRAMS.items() if find_program(program) is None]
    return packages + [package for names, find in OTHERS.items() if find() is None for package in names]


def install(packages: list[str]) -> str:
    """Install them without starting their services; why that did not succeed, or nothing."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "only root can install them, on Debian"
    # RUNLEVEL=1 keeps the packages' own services from starting.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"apt-get {command[0]} ended with {done.returncode}: {done.stderr[-400:]}"
    return ""


def main() -> None:
    """Install what is missing; never fails, so that everything else can still be tested."""
    wanted = missing()
    if not wanted:
        return
    print(f"programs: installing {' '.join(wanted)}")
    why = install(wanted)
    if left := missing():
        print(f"programs: {' '.join(left)} cannot be installed, tests will be skipped: {why}", file=sys.stderr)


if __name__ == "__main__":
    main()
