"""Numbered daemons (`tests.servers.numbered_daemon`) that can be killed and started again."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenantry.daemon.control.client import ask
from tenantry.daemon.link.enrolment import JoinOrder, join
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.measuring import leased_folder
from tenantry.protocol.failures import Failure
from tests.servers.deadlines import eventually
from tests.servers.history import BLOCKING, Delivered, History, NoProgress, check_delivery, check_log, read_history
from tests.servers.master import STOP_S, MasterProcess, ProgramFailed
from tests.servers.wire_tenant import create_tenant, move

PROGRAM = Path(sys.executable).with_name("tenantry-daemon")
REPOSITORY = Path(__file__).resolve().parents[2]
JOIN_S = 60.0
DRAIN_S = 90.0
CONNECT_S = 60.0
STATUS_S = 15.0
GENTLY = "--pause=0.4"
"""For tests of something else than load: each record costs both ends, and the check when all is delivered."""


@dataclass
class NumberedDaemon:
    """One daemon with its data folder, its history, its log."""

    folder: Path
    guid: str
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """What stands before the command, such as `ip netns exec NAME`."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    master_said: int = 0
    """How long the Master's log was before it came."""

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    @property
    def history_file(self) -> Path:
        """Its history."""
        return self.folder / "history"

    @property
    def history(self) -> History:
        """Its history up to now."""
        return read_history(self.history_file)

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self, *settings: str, **environment: str) -> "NumberedDaemon":
        """Start it; ``settings`` are arguments for this run only."""
        command = [*self.prefix, sys.executable, "-m", "tests.servers.numbered_program"]
        command += ["--data", str(self.data), "--history", str(self.history_file), *self.settings, *settings]
        variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environment, **environment}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables, cwd=REPOSITORY)
        self.starts += 1
        return self

    def dial(self, *addresses: str) -> None:
        """Let it find its Master at other addresses, such as that of a proxy."""
        file = self.data / "identity.json"
        identity = json.loads(file.read_text())
        identity["link_addresses"] = list(addresses)
        file.write_text(json.dumps(identity))

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Its event loop stands still meanwhile, while the threads of gRPC go on."""
        file = self.history_file.with_name(BLOCKING)
        file.touch()
        self.signal(signal.SIGUSR2)
        try:
            yield
        finally:
            file.unlink()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)

    def stop(self) -> None:
        """SIGTERM; it must end by itself, in peace."""
        if not self.running:
            return
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(STOP_S)
        if code:
            raise ProgramFailed(f"the daemon ended with {code}:\n{self.log[-4000:]}")

    def status(self) -> dict[str, Any]:
        """What `tenantry-daemon status` knows; empty while it does not answer."""
        with contextlib.suppress(Failure):
            return ask(self.data, {"command": "status"}, STATUS_S)
        return {}

    def count_logged(self, event: str) -> int:
        """How often it has logged an event."""
        return self.log.count(f'"event": "{event}"') + self.log.count(f'"event":"{event}"')

    def count_told(self, kind: str) -> int:
        """How many lines of a kind its history has."""
        return self.history_file.read_bytes().count(f'["{kind}"'.encode()) if self.history_file.exists() else 0

    async def connected(self, seconds: float = CONNECT_S) -> None:
        """Wait until its link is open."""
        await eventually(lambda: self.status().get("link", {}).get("connected"), "an open link", seconds)

    async def acknowledged(self, more: int = 1, seconds: float = CONNECT_S) -> None:
        """Wait until that many more acknowledgements have come."""
        before = self.count_told("ack")

        def have_come() -> bool:
            self._check_welcome()
            return self.count_told("ack") >= before + more

        await eventually(have_come, f"{more} acknowledgements", seconds)

    def _check_welcome(self) -> None:
        """Raises NoProgress when the Master has locked it out: then there is nothing to wait for."""
        for reason in ("TENANT_QUARANTINED", "CERTIFICATE_REVOKED"):
            if reason in self.log:
                raise NoProgress(f"locked out: {reason}")

    async def drained(self, seconds: float = DRAIN_S) -> None:
        """End the numbering, and wait until the Master has everything. Raises at once when it was locked out."""
        await eventually(self.status, "a daemon that answers", seconds)
        self.signal(signal.SIGUSR1)

        def is_empty() -> bool:
            status = self.status()
            self._check_welcome()
            assert self.running, f"the daemon died:\n{self.log[-4000:]}"
            ended = '["enough"]' in self.history_file.read_text().rpartition('["begin"')[2]
            return ended and status.get("spool", {}).get("unacknowledged_records") == 0

        await eventually(is_empty, "an empty spool", seconds)

    async def checked(self, master: MasterProcess, *, most_links: int | None = None) -> Delivered:
        """Drain it, and check the promise."""
        await self.drained()
        delivered = await check_delivery(master, self.guid, self.history_file, most_links=most_links)
        check_log(self.log)
        check_log(master.log[self.master_said :])
        print(f"{self.folder.name}: {delivered}")
        return delivered


async def joined_daemon(
    master: MasterProcess,
    folder: Path,
    name: str,
    *settings: str,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> NumberedDaemon:
    """A Tenant that is registered and joined, not started yet.

    By the real command where something is special about its surroundings, else by the same call in this process: a program less.
    """
    said = len(master.log)
    created = await create_tenant(master, f"{name} {folder.name}")
    own = folder / name
    own.mkdir(exist_ok=True)
    variables = environment or {}
    if variables or prefix:
        await _run_join(own / "data", created.enrolment.join_string, variables)
    else:
        with leased_folder(own / "data") as data:
            await join(IdentityFolder(data), JoinOrder.from_string(created.enrolment.join_string))
    return NumberedDaemon(own, created.tenant.guid, settings, variables, prefix, master_said=said)


async def _run_join(data: Path, join_string: str, environment: Mapping[str, str]) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [str(PROGRAM), "--data", str(data), "join", "-"],
        input=join_string.encode(),
        capture_output=True,
        timeout=JOIN_S,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise ProgramFailed(f"join failed with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")


@contextlib.asynccontextmanager
async def running_daemon(
    master: MasterProcess,
    folder: Path,
    name: str,
    *settings: str,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    address: str = "",
) -> AsyncIterator[NumberedDaemon]:
    """A daemon whose Tenant is active and whose link is open, at ``address`` if given. Killed at the end, if it still runs."""
    daemon = await joined_daemon(master, folder, name, *settings, environment=environment, prefix=prefix)
    try:
        if address:
            daemon.dial(address)
        daemon.start()
        await daemon.connected()
        await move(master, daemon.guid, "Activate")
        yield daemon
    finally:
        if daemon.running:
            daemon.signal(signal.SIGCONT)
        daemon.kill()
