"""Ways from a port of loopback to a target on another: through Tenantry, through ssh twice, through three raw relays."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import machine
from tests.servers import sshd
from tests.servers.packages import find_program
from tests.servers.ports import steady_port
from tests.servers.tunnelling import TunnelledTenant, running, until_it_listens

_STOP_S: Final = 30.0


class WayMissing(Exception):
    """This way cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """What signs in, or opens a tunnel, for one connection, which is its standard input and output."""

    command: Sequence[str]
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """Where a connection begins, the processes that carry it, by what they are, and a program that goes the same way anew."""

    name: str
    port: int
    processes: Mapping[str, int] = field(default_factory=dict)
    program: Program | None = None

    def cpu_seconds(self) -> float:
        """What all of them have used so far."""
        return sum(machine.cpu_seconds(pid) for pid in self.processes.values())


@contextmanager
def target() -> Iterator[int]:
    """The port of a target."""
    with _printing_its_port("benchmarks.tunnels.target") as (port, _):
        yield port


@contextmanager
def raw_way(port: int) -> Iterator[Way]:
    """Three relays in a row."""
    with contextlib.ExitStack() as stack:
        processes = {}
        for number in range(3):
            port, pid = stack.enter_context(_printing_its_port("benchmarks.tunnels.raw_relay", str(port)))
            processes[f"relay {number}"] = pid
        yield Way("raw", port, processes)


@contextmanager
def ssh_way(port: int, folder: Path, cipher: str | None = None) -> Iterator[Way]:
    """The Tenant's side forwards the target to a server (`ssh -R`), the operator's side fetches it from there (`ssh -L`)."""
    sshd_program = find_program("sshd")
    if sshd_program is None:
        raise WayMissing("sshd is not installed; `make programs` does")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running_sshd(sshd_program, folder))
        middle, near = steady_port(), steady_port()
        common = ["ssh", *server.options(), *(("-c", cipher) if cipher else ())]
        there = ["-p", str(server.port), f"{server.user}@127.0.0.1"]
        forwards = {
            "ssh -R": (middle, ["-N", "-R", f"127.0.0.1:{middle}:127.0.0.1:{port}"]),
            "ssh -L": (near, ["-N", "-L", f"127.0.0.1:{near}:127.0.0.1:{middle}"]),
        }
        processes = {"sshd": int((folder / "sshd.pid").read_text())}
        for name, (opened, words) in forwards.items():
            process = stack.enter_context(running([*common, *words, *there], folder / "ssh.log"))
            until_it_listens(opened, process, (folder / "ssh.log").read_text)
            processes[name] = process.pid
        program = Program([*common, "-W", f"127.0.0.1:{middle}", *there])
        yield Way(f"ssh {cipher}" if cipher else "ssh", near, processes, program)


@contextmanager
def our_way(tenant: TunnelledTenant, port: int) -> Iterator[Way]:
    """`tenantry tunnel forward`, as an operator runs it."""
    with tenant.forward(port) as (process, (near,)):
        program = Program(tenant.command("tunnel", "stdio", tenant.guid, f"127.0.0.1:{port}"), tenant.environment())
        yield Way("tenantry", near, {**tenant.processes, "operator": process.pid}, program)


@contextmanager
def _printing_its_port(module: str, *words: str) -> Iterator[tuple[int, int]]:
    process = subprocess.Popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait(_STOP_S)
        if process.stdout is not None:
            process.stdout.close()
