"""A Tenant with tunnels, as its operator has it: a real daemon whose policy allows loopback, and `tenantry tunnel …` as a process."""

import asyncio
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

from tests.servers.master import MasterProcess, ProgramFailed
from tests.servers.packages import somebody_listens
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
"""Loopback, with limits that nobody meets by chance."""
ROOM: Final = ("tunnels.connections=2000", "tunnels.connections_per_tenant=4000", "tunnels.dials=10000")
"""Settings of a Master whose limits nobody meets by chance."""


def operator(master: MasterProcess, folder: Path, token: str | None = None) -> dict[str, str]:
    """The environment in which the operator's program calls this Master, as its administrator or with another token."""
    root, secret = folder / "root.pem", folder / "token"
    root.write_bytes(master.roots)
    secret.touch(0o600)
    secret.write_text(master.token if token is None else token)
    reach = {"ADDRESS": master.api_address, "TOKEN_FILE": str(secret), "CA_FILE": str(root)}
    return {**os.environ, **{f"TENANTRY_{name}": value for name, value in reach.items()}}


@dataclass
class TunnelledTenant:
    """A Tenant that is connected. ``folder`` holds its data, its logs and the operator's."""

    folder: Path
    master: MasterProcess
    guid: str
    daemon: "subprocess.Popen[bytes]" = field(repr=False)

    @property
    def data(self) -> Path:
        """The daemon's data folder."""
        return self.folder / "tenant"

    @property
    def processes(self) -> dict[str, int]:
        """Master and daemon."""
        assert self.master.process is not None
        return {"Master": self.master.process.pid, "daemon": self.daemon.pid}

    @property
    def said(self) -> str:
        """What the operator's programs have written to stderr."""
        file = self.folder / "operator.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def allow(self, policy: str) -> None:
        """Write the Tenant's policy."""
        (self.data / "tunnels.toml").write_text(policy)

    def status(self) -> dict[str, Any]:
        """What `tenantry-daemon status` knows; empty while it does not answer."""
        return status_of(self.data)

    def command(self, *words: str) -> list[str]:
        """A command of the operator."""
        return [str(CLI), *words]

    def at_the_machine(self, *words: str) -> list[str]:
        """A command of somebody at the Tenant's machine."""
        return [str(DAEMON), *words, "--data", str(self.data)]

    def environment(self, token: str | None = None) -> dict[str, str]:
        """That of the operator's program."""
        return operator(self.master, self.folder, token)

    def proxy_command(self, port: int) -> list[str]:
        """What makes ssh, scp and rsync go through a tunnel to a port of the Tenant."""
        return ["-o", f"ProxyCommand={CLI} tunnel stdio {self.guid} 127.0.0.1:{port}"]

    @contextmanager
    def forward(self, *ports: int, host: str = "127.0.0.1") -> Iterator[tuple["subprocess.Popen[bytes]", list[int]]]:
        """`tenantry tunnel forward` to ports of the Tenant, and where each is here."""
        here = [steady_port() for _ in ports]
        targets = [f"{near}:{host}:{port}" for near, port in zip(here, ports, strict=True)]
        command = self.command("tunnel", "forward", self.guid, *targets)
        with running(command, self.folder / "operator.log", self.environment()) as process:
            for near in here:
                until_it_listens(near, process, lambda: self.said)
            yield process, here


@contextmanager
def tunnelled_tenant(
    master: MasterProcess, folder: Path, policy: str = POLICY, *, prefix: Sequence[str] = (), host: str | None = None
) -> Iterator[TunnelledTenant]:
    """A Tenant that is active and has its link.

    ``prefix`` stands before its command, such as `ip netns exec NAME`; ``host`` is where it finds its Master from there.
    """
    folder.mkdir()
    created = asyncio.run(create_tenant(master, folder.name))
    data = folder / "tenant"
    words = ["--data", str(data)]
    join = [str(DAEMON), "join", "-", *words]
    done = subprocess.run(join, input=created.enrolment.join_string, text=True, check=False, capture_output=True)
    if done.returncode:
        raise ProgramFailed(f"join failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    (data / "tunnels.toml").write_text(policy)
    surroundings = {**os.environ, "TENANTRY_DAEMON_TUNNELS_POLICY": str(data / "tunnels.toml")}
    if host is not None:
        file = data / "identity.json"
        identity = json.loads(file.read_text())
        identity["link_addresses"] = [f"{host}:{master.link_address.rpartition(':')[2]}"]
        file.write_text(json.dumps(identity))
    with running([*prefix, str(DAEMON), "run", *words], folder / "daemon.log", surroundings) as daemon:
        tenant = TunnelledTenant(folder, master, created.tenant.guid, daemon)
        until(lambda: tenant.status().get("link", {}).get("connected"), "the daemon's link")
        asyncio.run(move(master, tenant.guid, "Activate"))
        yield tenant


def status_of(data: Path) -> dict[str, Any]:
    """What `tenantry-daemon status` knows; empty while it does not answer."""
    done = subprocess.run(
        [DAEMON, "status", "--json", "--data", str(data)], capture_output=True, text=True, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {}
    return found


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process until the block ends; then SIGTERM, and SIGKILL if that does not help."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(START_S)
            raise ProgramFailed(f"{command[0]} did not end:\n{log.read_text(errors='replace')[-4000:]}") from None


def until_it_listens(
    port: int, process: "subprocess.Popen[bytes] | None" = None, said: Callable[[], str] = lambda: ""
) -> None:
    """Wait until somebody listens on a port of loopback, without connecting: that would go through the tunnel."""

    def listens() -> bool:
        if process is not None and process.poll() is not None:
            raise ProgramFailed(f"ended with {process.returncode}:\n{said()[-4000:]}")
        return somebody_listens(port)

    until(listens, f"somebody who listens on port {port}", said)


def until(look: Callable[[], object], what: str, said: Callable[[], str] = lambda: "") -> None:
    """Wait for what another process does. Raises ProgramFailed."""
    deadline = time.monotonic() + START_S
    while not look():
        if time.monotonic() > deadline:
            raise ProgramFailed(f"waited {START_S:g} s in vain for {what}\n{said()[-4000:]}")
        time.sleep(0.05)  # there is no event to wait for
