"""`tunnel socks`: a proxy into a Tenant's network."""

import socket
import subprocess
from collections.abc import Callable

import pytest

from tenantry.cli.tunnels.socks import Reply, answer
from tenantry.protocol.failures import (
    EXIT_USAGE,
    Failure,
    TargetTimedOut,
    TargetUnreachable,
    TenantNotConnected,
    TunnelNotAllowed,
    TunnelsTooMany,
)
from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import FakeMaster
from tests.cli.tunnels import targets
from tests.cli.tunnels.running import Running, running
from tests.cli.tunnels.targets import read_all, serving
from tests.servers import packages

WORDS = ("tunnel", "socks", "acme", "--listen", "0")
FAILURES: dict[str, tuple[Callable[[str], Failure], Reply]] = {
    "forbidden:1": (lambda _: TunnelNotAllowed(end="policy", cause="policy"), Reply.NOT_ALLOWED),
    "slow:1": (lambda target: TargetTimedOut(target=target), Reply.TIMED_OUT),
    "far:1": (lambda target: TargetUnreachable(target=target), Reply.NETWORK_UNREACHABLE),
    "away:1": (lambda target: TenantNotConnected(tenant=target), Reply.NETWORK_UNREACHABLE),
    "full:1": (lambda _: TunnelsTooMany(limit="1", whose="connections"), Reply.GENERAL_FAILURE),
}


def ask(proxy: Running, name: str, port: int) -> tuple[socket.socket, bytes]:
    """A connection to the proxy that has asked for a target, and the reply."""
    connection = proxy.dial()
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2) == b"\x05\x00"
    connection.sendall(b"\x05\x01\x00\x03" + bytes((len(name),)) + name.encode() + port.to_bytes(2, "big"))
    return connection, connection.recv(10, socket.MSG_WAITALL)


def test_each_failure_has_its_reply(operator: Person, master: FakeMaster) -> None:
    """What the target or the Tenant says reaches the client in its own words; the proxy goes on."""
    master.add("acme", "main")
    with serving(targets.digest) as digest:
        master.tunnels.places = {"digest:1": digest, "nobody:1": targets.nobody()}
        master.tunnels.dial_failures = {name: make(name) for name, (make, _) in FAILURES.items()}
        expected = {name: reply for name, (_, reply) in FAILURES.items()}
        expected |= {"nobody:1": Reply.REFUSED, "unknown:1": Reply.HOST_UNREACHABLE}
        with running(operator, *WORDS) as proxy:
            assert proxy.lines[0]["target"] is None
            for name, reply in expected.items():
                connection, replied = ask(proxy, name.removesuffix(":1"), 1)
                with connection:
                    assert replied == answer(reply), name
                    assert read_all(connection) == b""
                proxy.wait_told(f"to {name}: ")
            connection, replied = ask(proxy, "digest", 1)
            with connection:
                assert replied == answer(Reply.SUCCEEDED)
                connection.shutdown(socket.SHUT_WR)
                assert len(read_all(connection)) == 64
            assert proxy.end() == 130
    assert list(master.tunnels.tunnels.values())[0].targets == []  # noqa: RUF015
    assert master.tunnels.dialled == [*expected, "digest:1"]


def test_what_is_no_socks_is_closed(operator: Person, master: FakeMaster) -> None:
    """Neither another protocol nor a client that leaves in the middle troubles the proxy."""
    master.add("acme", "main")
    with running(operator, *WORDS) as proxy:
        with proxy.dial() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):  # what it did not read was thrown away
                assert read_all(connection)
        proxy.dial().close()
        with proxy.dial() as connection:
            connection.sendall(b"\x05\x01\x02")
            assert read_all(connection) == b"\x05\xff"
        assert proxy.end() == 130


def test_curl_goes_through_it(operator: Person, master: FakeMaster) -> None:
    """A program of others, with the name resolved at the other side."""
    packages.required("curl")
    master.add("acme", "main")

    def web(here: socket.socket) -> None:
        while b"\r\n\r\n" not in here.recv(65_536):
            pass
        here.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with serving(web) as port:
        master.tunnels.places = {"intranet.example:80": port}
        with running(operator, *WORDS) as proxy:
            address = f"socks5h://127.0.0.1:{proxy.lines[0]['port']}"

            def get(name: str) -> "subprocess.CompletedProcess[bytes]":
                command = ["curl", "--silent", "--show-error", "--noproxy", "", "--proxy", address, f"http://{name}/"]
                return subprocess.run(command, capture_output=True, timeout=END_S, check=False)

            assert get("intranet.example").stdout == b"hello"
            assert b"(4)" in get("elsewhere.example").stderr


def test_it_listens_for_this_machine_only(operator: Person, master: FakeMaster) -> None:
    """It asks nobody who they are."""
    master.add("acme", "main")
    explained = operator.error("tunnel", "socks", "acme", "--listen", "*:1080")
    assert (explained["reason"], explained["exit_code"]) == ("INPUT_INVALID", EXIT_USAGE)
    assert master.tunnels.tunnels == {}
