"""kill -9 of each party in the middle of transfers: nothing is left at the others, within ten seconds."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tenantry.daemon.tunnels.log import CONNECTIONS, read_log
from tests.servers.habits import Target, running_target
from tests.servers.master import running_master
from tests.servers.tunnelling import ROOM, TunnelledTenant, tunnelled_tenant
from tests.system.tunnels.test_connections import connect

pytestmark = pytest.mark.slow
TRANSFERS = 12
PROMISED_S = 10.0
SLACK_MB = 24.0
"""What an allocator may keep of a transfer's buffers."""


@dataclass
class Held:
    """What a process holds on to."""

    descriptors: int
    megabytes: float


def held(pid: int) -> Held:
    """What a process holds now."""
    process = psutil.Process(pid)
    return Held(process.num_fds(), process.memory_info().rss / 1e6)


def until_released(pid: int, before: Held, who: str) -> None:
    """Wait until a process holds no descriptor more than before, and hardly more memory."""
    deadline = time.monotonic() + PROMISED_S
    while True:
        now = held(pid)
        if now.descriptors <= before.descriptors and now.megabytes <= before.megabytes + SLACK_MB:
            return
        assert time.monotonic() < deadline, f"the {who} held {before}, and ten seconds after the kill {now}"
        time.sleep(0.1)


@contextlib.contextmanager
def setting(folder: Path) -> Iterator[tuple[TunnelledTenant, Target]]:
    """A Master, a Tenant and a target of their own: this test kills them."""
    with (
        running_master(folder, *ROOM) as master,
        running_target() as target,
        tunnelled_tenant(master, folder / "tenant") as tenant,
    ):
        yield tenant, target


def warm_up(port: int) -> None:
    """One connection to its end: what is loaded and opened once is not counted as left over."""
    with connect(port, b"e") as connection:
        connection.sendall(b"hello")
        assert connection.recv(5, socket.MSG_WAITALL) == b"hello"


@contextlib.contextmanager
def transfers(port: int) -> Iterator[None]:
    """Endless downloads that are read a little and then not: everything on the way is full."""
    with contextlib.ExitStack() as stack:
        for _ in range(TRANSFERS):
            connection = stack.enter_context(connect(port, b"i"))
            assert connection.recv(1 << 16)
        yield


def until_over(target: Target, connections: int) -> None:
    """Wait until the target has seen the end of so many connections."""
    deadline = time.monotonic() + PROMISED_S
    for _ in range(connections):
        assert target.finished.acquire(timeout=max(0.0, deadline - time.monotonic())), "a connection is half-open"


def drain(target: Target) -> None:
    """Forget the connections that were over before."""
    while target.finished.acquire(timeout=0.5):
        pass


def test_nothing_is_left_of_an_operator_that_was_killed(tmp_path: Path) -> None:
    """The target's connections end; Master and daemon hold what they held before."""
    with setting(tmp_path) as (tenant, target):
        with tenant.forward(target.port) as (_, (port,)):
            warm_up(port)
        drain(target)
        before = {name: held(pid) for name, pid in tenant.processes.items()}
        with tenant.forward(target.port) as (operator, (port,)), transfers(port):
            operator.kill()
            until_over(target, TRANSFERS)
            for name, pid in tenant.processes.items():
                until_released(pid, before[name], name)


def test_nothing_is_left_of_a_daemon_that_was_killed(tmp_path: Path) -> None:
    """The operator's connections end, and the Master holds what it held before; its own log says where they led."""
    with setting(tmp_path) as (tenant, target):
        with tenant.forward(target.port) as (_, (port,)):
            warm_up(port)
        master = tenant.processes["Master"]
        before = held(master)
        with tenant.forward(target.port) as (_, (port,)), contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connect(port, b"i")) for _ in range(TRANSFERS)]
            assert all(connection.recv(1) for connection in connections)
            tenant.daemon.kill()
            for connection in connections:
                assert ends(connection)
            reached = [line for line in read_log(tenant.data, CONNECTIONS) if line["event"] == "reached"]
            assert {line["target"] for line in reached} == {f"127.0.0.1:{target.port}"}
            assert len({line["tunnel"] for line in reached}) == 2
        until_released(master, before, "Master")


def test_nothing_is_left_of_a_master_that_was_killed(tmp_path: Path) -> None:
    """Both ends of each connection end, the daemon holds what it held before, and the operator can go on with the next Master."""
    with setting(tmp_path) as (tenant, target), tenant.forward(target.port) as (_, (port,)):
        warm_up(port)
        drain(target)
        before = held(tenant.daemon.pid)
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connect(port, b"i")) for _ in range(TRANSFERS)]
            assert all(connection.recv(1) for connection in connections)
            tenant.master.kill()
            for connection in connections:
                assert ends(connection)
            until_over(target, TRANSFERS)
            until_released(tenant.daemon.pid, before, "daemon")
        tenant.master.start()
        again(lambda: warm_up(port))


def ends(connection: socket.socket) -> bool:
    """Whether a connection comes to its end, in any way, in the promised time."""
    connection.settimeout(PROMISED_S)
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def again(action: Callable[[], None], seconds: float = 60.0) -> None:
    """Try until it succeeds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except (OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
