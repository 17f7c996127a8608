"""Programs of other people that tests and benchmarks run, from Debian's packages."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
"""Where programs are looked for: those of administrators too."""


class ProgramNotServing(AssertionError):
    """A program does not take connections; carries what it logged."""


def find_program(name: str) -> Path | None:
    """A program of the system, or None."""
    found = shutil.which(name, path=PLACES)
    return None if found is None else Path(found)


def install(*packages: str) -> str:
    """Install packages without starting their services; why that did not succeed, or nothing."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "only root can install it, on Debian"
    # RUNLEVEL=1 keeps the packages' own services from starting.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"apt-get {command[0]} ended with {done.returncode}: {done.stderr[-400:]}"
    return ""


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path, seconds: float) -> None:
    """Wait until a server on loopback takes connections. Raises ProgramNotServing with what it has logged."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), seconds).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ProgramNotServing(log.read_text(errors="replace")[-4000:]) from error
            time.sleep(0.02)  # there is no event to wait for: the port is the event
        else:
            return
