"""A real Master for tests: the program itself, in a data folder of its own, on free ports."""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from tenantry.protocol.names import listener_name
from tenantry.transport.settings import client_options
from tests.servers.licensing import licensed
from tests.servers.ports import steady_port

PROGRAM = Path(sys.executable).with_name("tenantry-master")
REPOSITORY = Path(__file__).resolve().parents[2]
TRUST_DOMAIN = "tenantry.internal"
START_S = 60.0
STOP_S = 60.0


class ProgramFailed(AssertionError):
    """A program did not do what a test needs; carries what it printed."""


@dataclass
class MasterProcess:
    """One Master that can be killed and started again. Its ports stay the same from start to start."""

    data: Path
    token: str = field(repr=False)
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    api_address: str = ""
    link_address: str = ""
    tunnels_address: str = ""
    relay_address: str = ""
    monitoring_address: str | None = None
    machines_address: str | None = None
    console_address: str | None = None
    process: subprocess.Popen[bytes] | None = None
    quick: bool = False
    """Its passwords cost little (`tests.servers.quick_master`)."""

    @property
    def root(self) -> bytes:
        """The root certificate of the oldest authority, PEM."""
        return min((self.data / "pki").glob("*/root.pem"), key=lambda path: path.stat().st_mtime_ns).read_bytes()

    @property
    def roots(self) -> bytes:
        """The root certificates of all its authorities, PEM: what somebody trusts who has heard of each replacement."""
        return b"".join(path.read_bytes() for path in (self.data / "pki").glob("*/root.pem"))

    @property
    def log(self) -> str:
        """Everything that the Master has logged."""
        return (self.data.parent / f"{self.data.name}.log").read_text(errors="replace")

    def start(self) -> "MasterProcess":
        """Start the program and wait until it listens."""
        endpoints = self.data / "run" / "endpoints.json"
        endpoints.unlink(missing_ok=True)
        program = [sys.executable, "-m", "tests.servers.quick_master"] if self.quick else [str(PROGRAM)]
        command = [*program, "run", "--data", str(self.data)]
        for setting in (
            f"api_listen={self.api_address or f'127.0.0.1:{steady_port()}'}",
            f"link_listen={self.link_address or f'127.0.0.1:{steady_port()}'}",
            f"tunnels_listen={self.tunnels_address or f'127.0.0.1:{steady_port()}'}",
            f"relay_listen={self.relay_address or f'127.0.0.1:{steady_port()}'}",
            *self.settings,
        ):
            command += ["--set", setting]
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            variables = {**os.environ, **({"PYTHONPATH": str(REPOSITORY)} if self.quick else {}), **self.environment}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
        deadline = time.monotonic() + START_S
        while not endpoints.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailed(f"the Master did not start:\n{self.log[-4000:]}")
            time.sleep(0.02)  # there is no event to wait for: the file is the event
        known = json.loads(endpoints.read_text())
        self.api_address, self.link_address = known["api"], known["link"]
        self.tunnels_address, self.relay_address = known["tunnels"] or "", known["relay"] or ""
        self.monitoring_address, self.machines_address = known["monitoring"], known["machines"]
        self.console_address = known["console"]
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running program."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(STOP_S)

    def api_channel(self, *, options: tuple[tuple[str, int | str], ...] = ()) -> grpc.aio.Channel:
        """A verified channel to the `api` listener, without a token."""
        return grpc.aio.secure_channel(
            self.api_address,
            grpc.ssl_channel_credentials(self.roots),
            options=[*client_options(listener_name("api", TRUST_DOMAIN)), *options],
        )

    def link_channel(self, key: bytes, chain: bytes, root: bytes | None = None) -> grpc.aio.Channel:
        """A channel to the `link` listener with a client certificate (PEM)."""
        return grpc.aio.secure_channel(
            self.link_address,
            grpc.ssl_channel_credentials(root or self.roots, key, chain),
            options=client_options(listener_name("link", TRUST_DOMAIN)),
        )

    def machine_channel(self, key: bytes, chain: bytes) -> grpc.aio.Channel:
        """A channel to the `machines` listener with a client certificate (PEM)."""
        assert self.machines_address is not None
        return grpc.aio.secure_channel(
            self.machines_address,
            grpc.ssl_channel_credentials(self.root, key, chain),
            options=client_options(listener_name("machines", TRUST_DOMAIN)),
        )

    def tunnels_channel(self) -> grpc.aio.Channel:
        """A verified channel to the `tunnels` listener."""
        return grpc.aio.secure_channel(
            self.tunnels_address,
            grpc.ssl_channel_credentials(self.roots),
            options=client_options(listener_name("tunnels", TRUST_DOMAIN)),
        )

    def relay_channel(self, key: bytes, chain: bytes) -> grpc.aio.Channel:
        """A channel to the `relay` listener with a client certificate (PEM)."""
        return grpc.aio.secure_channel(
            self.relay_address,
            grpc.ssl_channel_credentials(self.roots, key, chain),
            options=client_options(listener_name("relay", TRUST_DOMAIN)),
        )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What an administrator's call carries."""
        return (("authorization", f"Bearer {self.token}"),)


def initialise(data: Path, *arguments: str, licence: bool = True) -> str:
    """``tenantry-master init``, with a licence of the test issuer; the administrator's token.

    Without ``arguments`` it is a copy of one that this process made before: the same Master, before it was ever started.
    """
    if arguments:
        return _initialise(data, *arguments, licence=licence)
    made, token = _made_once(licence=licence)
    shutil.copytree(made, data)
    return token


@functools.cache
def _made_once(*, licence: bool) -> tuple[Path, str]:
    folder = Path(tempfile.mkdtemp(prefix="tenantry-master-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "master", _initialise(folder / "master", licence=licence)


def _initialise(data: Path, *arguments: str, licence: bool) -> str:
    token_file = data.parent / f"{data.name}.token"
    more = licensed(*arguments) if licence else arguments
    done = subprocess.run(
        [str(PROGRAM), "init", "--data", str(data), "--host", "127.0.0.1", "--token-file", str(token_file), *more],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    if done.returncode:
        raise ProgramFailed(f"init failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return token_file.read_text().strip()


@contextmanager
def running_master(
    folder: Path,
    *settings: str,
    environment: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    licence: bool = True,
    quick: bool = False,
) -> Iterator[MasterProcess]:
    """A Master in ``folder``; ``settings`` as ``key=value``. Stopped at the end, or killed when it will not stop.

    ``quick``: passwords cost it little; for tests that sign in often, and of something else than what that costs.
    """
    data = folder / "master"
    token = initialise(data, *arguments, licence=licence)
    master = MasterProcess(data, token, settings, environment or {}, quick=quick)
    try:
        yield master.start()
    finally:
        if master.process is not None and master.process.poll() is None:
            try:
                master.stop()
            except subprocess.TimeoutExpired:
                master.kill()
                raise ProgramFailed(f"the Master did not stop:\n{master.log[-4000:]}") from None
