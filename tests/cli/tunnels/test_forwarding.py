"""`tunnel forward`: what listens here, and how long."""

import contextlib
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tenantry.protocol.failures import (
    EXIT_DENIED,
    EXIT_LOCAL,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    Failure,
    NotAllowed,
    NotSignedIn,
    TargetTimedOut,
    TenantNotFound,
    TunnelClosed,
    TunnelNotAllowed,
)
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.v1 import tunnel_pb2 as pb
from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import FakeMaster
from tests.cli.tunnels import targets
from tests.cli.tunnels.running import Running, running
from tests.cli.tunnels.targets import read_all, serving


def test_several_targets_are_forwarded_at_once(operator: Person, master: FakeMaster) -> None:
    """Each listening socket leads to its own target; every line says which; bytes pass both ways, and half-closes too."""
    tenant = master.add("acme", "main")
    with serving(targets.echo) as echo, serving(targets.digest) as digest:
        master.tunnels.places = {"echo.internal:7": echo, "127.0.0.1:99": digest}
        with running(operator, "tunnel", "forward", "acme", ":echo.internal:7", "0:99", lines=2) as forward:
            tunnel = master.tunnels.open_ones()[0]
            assert [line["target"] for line in forward.lines] == [
                {"host": "echo.internal", "port": 7},
                {"host": "127.0.0.1", "port": 99},
            ]
            assert {(line["address"], line["tenant"], line["tunnel"]) for line in forward.lines} == {
                ("127.0.0.1", tenant.guid, tunnel.id)
            }
            assert [(one.host, one.port) for one in tunnel.targets] == [("echo.internal", 7), ("127.0.0.1", 99)]
            with forward.dial(0) as connection:
                connection.sendall(b"\x00\xffhello")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"\x00\xffhello"
            load = os.urandom(3_000_000)
            with forward.dial(1) as connection:
                connection.sendall(load)
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection).decode() == hashlib.sha256(load).hexdigest()
            assert forward.end() == 130
    assert (tunnel.state, tunnel.connections) == (pb.TUNNEL_STATE_CLOSED, 2)


def test_a_connection_that_does_not_come_about_is_reset_and_explained(operator: Person, master: FakeMaster) -> None:
    """Whatever the reason: the client sees a reset, the operator reads why, and the others go on."""
    master.add("acme", "main")
    with serving(targets.echo) as echo, serving(targets.reset) as resetting:
        master.tunnels.places = {"echo:7": echo, "nobody:1": targets.nobody(), "cross:1": resetting}
        master.tunnels.dial_failures = {"slow:1": TargetTimedOut(target="slow:1")}
        words = ("tunnel", "forward", "acme", ":nobody:1", ":slow:1", ":unknown:1", ":cross:1", ":echo:7")
        with running(operator, *words, lines=5) as forward:
            for number, expected in enumerate(
                ("nobody:1 refused", "slow:1 did not answer", "cannot resolve the name of unknown:1", "reset")
            ):
                with forward.dial(number) as connection:
                    connection.sendall(b"x")
                    with pytest.raises(ConnectionResetError):
                        read_all(connection)
                assert "Connection from 127.0.0.1:" in forward.wait_told(expected)
            with forward.dial(4) as connection:
                connection.sendall(b"still here")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"still here"
            assert forward.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_listening_sockets_outlive_the_master(operator: Person, master: FakeMaster) -> None:
    """A restart of the Master breaks connections, not what listens; who connects meanwhile waits."""
    tenant = master.add("acme", "main")
    with serving(targets.echo) as echo:
        master.tunnels.places = {"echo:7": echo}
        with running(operator, "tunnel", "forward", "acme", ":echo:7") as forward, forward.dial() as early:
            early.sendall(b"x")
            assert early.recv(1) == b"x"
            master.stop()
            with pytest.raises(ConnectionResetError):
                read_all(early)
            forward.wait_told("The tunnel is away: ")
            with forward.dial() as connection, FakeMaster(master.identity, master.port) as returned:
                returned.tenants = {tenant.guid: tenant}
                returned.tunnels.places = {"echo:7": echo}
                connection.sendall(b"patience")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"patience"
                forward.wait_told("is open again")
                assert forward.end() == 130


def test_a_tenant_that_is_away_is_waited_for_once_a_tunnel_was_open(operator: Person, master: FakeMaster) -> None:
    """At the beginning its absence is an error; later it is waited for."""
    master.add("acme", "main")
    master.tunnels.away = True
    assert operator.error("tunnel", "forward", "acme", "0:7")["reason"] == "TENANT_NOT_CONNECTED"
    master.tunnels.away = False
    with serving(targets.echo) as echo:
        master.tunnels.places = {"127.0.0.1:7": echo}
        with running(operator, "tunnel", "forward", "acme", "0:7") as forward:
            master.tunnels.away = True
            end = TunnelEnd.LINK_LOST
            master.tunnels.endings[forward.lines[0]["tunnel"]] = TunnelClosed(end=end.value, detail=end.describe())
            forward.wait_told("is not connected now")
            master.tunnels.away = False
            forward.wait_told("is open again")
            with forward.dial() as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"


@pytest.mark.parametrize("end", [TunnelEnd.BY_TENANT, TunnelEnd.LONGEST, TunnelEnd.RIGHTS, TunnelEnd.IDLE])
def test_it_says_why_it_ends(operator: Person, master: FakeMaster, end: TunnelEnd) -> None:
    """Ends that will not pass by themselves end the command, with the reason and an exit code."""
    master.add("acme", "main")
    with running(operator, "tunnel", "forward", "acme", "0:7") as forward:
        master.tunnels.endings[forward.lines[0]["tunnel"]] = TunnelClosed(end=end.value, detail=end.describe())
        error = json.loads(forward.wait_told("TUNNEL_CLOSED"))["error"]
        assert (error["metadata"]["end"], end.describe() in error["message"]) == (end.value, True)
        assert forward.process.wait(END_S) == EXIT_UNREACHABLE


@pytest.mark.parametrize(
    "failure", [TenantNotFound(tenant="acme"), NotSignedIn(), NotAllowed(permission="tunnel.open")]
)
def test_a_right_that_ends_while_a_tunnel_is_open_is_said_as_such(
    operator: Person, master: FakeMaster, failure: Failure
) -> None:
    """The Master tells somebody without rights no more than a stranger; the operator still reads why the tunnel is over."""
    master.add("acme", "main")
    with running(operator, "tunnel", "forward", "acme", "0:7") as forward:
        master.tunnels.endings[forward.lines[0]["tunnel"]] = failure
        forward.wait_told("the operator's rights ended")
        assert forward.process.wait(END_S) == failure.exit_code


def test_a_refusal_by_the_tenant_is_said_as_such(operator: Person, master: FakeMaster) -> None:
    """Nothing is announced, and nothing is left listening."""
    master.add("acme", "main")
    end = TunnelEnd.POLICY
    master.failing["OpenTunnel"] = TunnelNotAllowed(end=end.value, cause=end.describe())
    result = operator.run("tunnel", "forward", "acme", ":db:5432")
    assert (result.exit_code, result.stdout) == (EXIT_DENIED, "")
    assert "refused at the Tenant" in result.stderr


def test_consent_is_waited_for_and_asked_with_the_reason(operator: Person, master: FakeMaster) -> None:
    """The operator reads that somebody has to say yes; --reason and --for reach the Master."""
    master.add("acme", "main")
    master.tunnels.asks_for_consent = True
    words = ("tunnel", "forward", "acme", "0:7", "--reason", "a disk is full", "--for", "30m", "--output", "json")
    with operator.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        forward = Running(process, [])
        forward.wait_told("waits until somebody at the Tenant's machine allows it")
        request = master.requests[-1]
        assert request.reason == "a disk is full"
        assert 1_500 < request.duration.seconds <= 1_800  # what is left of it by now
        master.tunnels.asks_for_consent = False
        master.announce()
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["target"] == {"host": "127.0.0.1", "port": 7}


def test_what_cannot_listen_asks_nothing_of_the_master(operator: Person, master: FakeMaster) -> None:
    """A port that is taken, an address of another machine, and what is no forward."""
    master.add("acme", "main")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        explained = operator.error("tunnel", "forward", "acme", f"{taken.getsockname()[1]}:db:1")
    assert (explained["reason"], explained["exit_code"]) == ("ADDRESS_UNUSABLE", EXIT_LOCAL)
    assert operator.error("tunnel", "forward", "acme", "192.0.2.1:0:db:1")["reason"] == "ADDRESS_UNUSABLE"
    assert operator.error("tunnel", "forward", "acme", "db")["exit_code"] == EXIT_USAGE
    assert master.tunnels.tunnels == {}


def test_others_are_warned_of(operator: Person, master: FakeMaster) -> None:
    """An address that other machines reach has to be spelled, and is pointed out."""
    master.add("acme", "main")
    with running(operator, "tunnel", "forward", "acme", "*:0:db:1") as forward:
        assert forward.lines[0]["address"] == "0.0.0.0"  # noqa: S104
        forward.wait_told("Warning: whoever reaches 0.0.0.0")


def test_many_short_connections_leave_nothing(operator: Person, master: FakeMaster) -> None:
    """A hundred in a row and fifty at once: all are served, and no descriptor is left."""
    master.add("acme", "main")
    with serving(targets.echo) as echo:
        master.tunnels.places = {"127.0.0.1:7": echo}
        with running(operator, "tunnel", "forward", "acme", "0:7") as forward:
            descriptors = Path(f"/proc/{forward.process.pid}/fd")
            before = 0
            for number in range(100):
                with forward.dial() as connection:
                    connection.sendall(b"x")
                    connection.shutdown(socket.SHUT_WR)
                    assert read_all(connection) == b"x"
                if number == 0:
                    before = len(list(descriptors.iterdir()))
            with contextlib.ExitStack() as stack:
                connections = [stack.enter_context(forward.dial()) for _ in range(50)]
                for connection in connections:
                    connection.sendall(b"y")
                    connection.shutdown(socket.SHUT_WR)
                assert [read_all(connection) for connection in connections] == [b"y"] * 50
            with forward.dial() as connection:
                connection.sendall(b"z")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"z"
            assert len(list(descriptors.iterdir())) <= before + 3
            assert forward.end() == 130


def test_it_takes_all_descriptors_that_it_may_have(operator: Person, master: FakeMaster) -> None:
    """A soft limit of a shell is no limit for connections."""
    master.add("acme", "main")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(operator, "tunnel", "forward", "acme", "0:7") as forward:
        assert resource.prlimit(forward.process.pid, resource.RLIMIT_NOFILE) == (most, most)
