"""Ways from a port of loopback to a target on another: through Tenantry, through ssh twice, through three raw relays."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from tests.servers import sshd
from tests.servers.master import MasterProcess
from tests.servers.packages import find_program
from tests.servers.ports import steady_port
from tests.servers.wire_tenant import create_tenant, move

START_S: Final = 30.0
DAEMON: Final = Path(sys.executable).with_name("tenantry-daemon")
CLI: Final = Path(sys.executable).with_name("tenantry")
POLICY: Final = """
tunnels = 64
connections = 2000
dials_per_minute = 600000

[[allow]]
host = "127.0.0.1"
ports = ["1-65535"]
"""
"""What the Tenant of a benchmark lets through: limits that are not what is measured."""


class WayMissing(Exception):
    """This way cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a connection begins, and the processes that carry it, by what they are."""

    name: str
    port: int
    processes: Mapping[str, int] = field(default_factory=dict)

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
    program = find_program("sshd")
    if program is None:
        raise WayMissing(f"sshd is not installed; it is in Debian's package {sshd.PACKAGES[0]}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running_sshd(program, folder))
        middle, near = steady_port(), steady_port()
        common = ["ssh", *server.options(), *(("-c", cipher) if cipher else ())]
        there = f"{server.user}@127.0.0.1"
        forwards = {
            "ssh -R": ["-N", "-R", f"127.0.0.1:{middle}:127.0.0.1:{port}"],
            "ssh -L": ["-N", "-L", f"127.0.0.1:{near}:127.0.0.1:{middle}"],
        }
        processes = {"sshd": int((folder / "sshd.pid").read_text())}
        for (name, words), opened in zip(forwards.items(), (middle, near), strict=True):
            process = stack.enter_context(
                _running([*common, *words, "-p", str(server.port), there], folder / "ssh.log")
            )
            _until_it_listens(opened)
            processes[name] = process.pid
        yield Way(f"ssh {cipher}" if cipher else "ssh", near, processes)


@dataclass
class Tenantry:
    """A Master, a daemon whose policy allows loopback, and tunnels of the operator's program."""

    folder: Path
    master: MasterProcess
    guid: str
    daemon: int

    @property
    def processes(self) -> dict[str, int]:
        """The two that stay."""
        assert self.master.process is not None
        return {"Master": self.master.process.pid, "daemon": self.daemon}

    @contextmanager
    def forward(self, port: int) -> Iterator[Way]:
        """`tenantry tunnel forward`, as an operator runs it."""
        near = steady_port()
        command: list[str | Path] = [CLI, "tunnel", "forward", self.guid, f"{near}:127.0.0.1:{port}"]
        with _running(command, self.folder / "operator.log", operator(self.master, self.folder)) as process:
            _until_it_listens(near)
            yield Way("tenantry", near, {**self.processes, "operator": process.pid})


@contextmanager
def tenantry(master: MasterProcess, folder: Path) -> Iterator[Tenantry]:
    """A daemon of this Master, whose policy allows loopback, and an operator."""
    folder.mkdir()
    created = asyncio.run(create_tenant(master, "measured"))
    data = folder / "tenant"
    words = ["--data", str(data)]
    subprocess.run(
        [DAEMON, "join", "-", *words], input=created.enrolment.join_string, text=True, check=True, capture_output=True
    )
    (data / "tunnels.toml").write_text(POLICY)
    with _running([DAEMON, "run", *words], folder / "daemon.log") as daemon:
        _until(lambda: _status(data).get("link", {}).get("connected"), "the daemon's link")
        asyncio.run(move(master, created.tenant.guid, "Activate"))
        yield Tenantry(folder, master, created.tenant.guid, daemon.pid)


def listening() -> tuple[str, str]:
    """Settings with which a Master listens for tunnels on free ports."""
    return (f"tunnels_listen=127.0.0.1:{steady_port()}", f"relay_listen=127.0.0.1:{steady_port()}")


def operator(master: MasterProcess, folder: Path) -> dict[str, str]:
    """The environment in which the operator's program calls this Master as its administrator."""
    root, token = folder / "root.pem", folder / "token"
    root.write_bytes(master.roots)
    token.touch(0o600)
    token.write_text(master.token)
    reach = {"ADDRESS": master.api_address, "TOKEN_FILE": str(token), "CA_FILE": str(root)}
    return {**os.environ, **{f"TENANTRY_{name}": value for name, value in reach.items()}}


def _status(data: Path) -> dict[str, Any]:
    done = subprocess.run(
        [DAEMON, "status", "--json", "--data", str(data)], capture_output=True, text=True, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {}
    return found


@contextmanager
def _running(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_S)


@contextmanager
def _printing_its_port(module: str, *words: str) -> Iterator[tuple[int, int]]:
    process = subprocess.Popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait(START_S)
        if process.stdout is not None:
            process.stdout.close()


def _until_it_listens(port: int) -> None:
    _until(lambda: _listens(port), f"somebody who listens on port {port}")


def _listens(port: int) -> bool:
    """Whether somebody listens there, without connecting: that would open a connection through the tunnel."""
    wanted = f"0100007F:{port:04X}"
    return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in _sockets())


def _sockets() -> list[str]:
    return Path("/proc/net/tcp").read_text().splitlines()[1:]


def _until(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not look():
        if time.monotonic() > deadline:
            raise WayMissing(f"waited {START_S:g} s in vain for {what}")
        time.sleep(0.05)
