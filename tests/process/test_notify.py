import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.process.notify import ServiceNotifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager that listens on a socket in the file system or in the abstract namespace."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@tenantry-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.settimeout(60)
        yield address, listener


def test_each_message_arrives(manager: tuple[str, socket.socket]) -> None:
    """Ready, status, watchdog and stopping are what systemd expects, byte for byte."""
    address, listener = manager
    notifier = ServiceNotifier.from_environment({"NOTIFY_SOCKET": address})
    assert notifier.enabled
    assert notifier.ready("3 Tenants")
    assert listener.recv(1024) == b"READY=1\nSTATUS=3 Tenants"
    assert notifier.watchdog()
    assert listener.recv(1024) == b"WATCHDOG=1"
    assert notifier.stopping()
    assert listener.recv(1024) == b"STOPPING=1"


def test_a_status_is_one_line(manager: tuple[str, socket.socket]) -> None:
    """A name with a line break cannot smuggle in an assignment."""
    address, listener = manager
    ServiceNotifier(address).status("Tenant x\nREADY=1\r\n")
    assert listener.recv(1024) == b"STATUS=Tenant x READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    """Nobody to tell is not an error."""
    notifier = ServiceNotifier.from_environment(environment)
    assert not notifier.enabled
    assert not notifier.ready()


def test_a_manager_that_is_gone_does_not_stop_the_program(tmp_path: Path) -> None:
    """A stale socket path is answered with False, not with an exception."""
    assert not ServiceNotifier(str(tmp_path / "gone")).ready()


def test_the_watchdog_is_meant_for_one_process() -> None:
    """The interval is in seconds, and only for the process that systemd named."""
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000"}
    assert ServiceNotifier.from_environment(environment).watchdog_interval == 30.0
    mine = {**environment, "WATCHDOG_PID": str(os.getpid())}
    assert ServiceNotifier.from_environment(mine).watchdog_interval == 30.0
    other = {**environment, "WATCHDOG_PID": "1"}
    assert ServiceNotifier.from_environment(other).watchdog_interval is None
