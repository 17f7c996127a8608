"""`tunnel stdio`: stdin and stdout of a process as one end of a connection."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenantry.protocol.failures import EXIT_NOT_FOUND, EXIT_UNREACHABLE, EXIT_USAGE, TunnelClosed
from tenantry.protocol.tunnels.ends import TunnelEnd
from tests.cli.conftest import END_S, PROGRAM, Person
from tests.cli.fake_master import FakeMaster
from tests.cli.tunnels import targets
from tests.cli.tunnels.targets import serving


@contextmanager
def stdio(person: Person, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The command with pipes of bytes."""
    pipe = subprocess.PIPE
    command = [str(PROGRAM), "tunnel", "stdio", *words]
    with subprocess.Popen(command, env=person.surroundings(), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def tenant(master: FakeMaster) -> str:
    """The GUID of a Tenant."""
    return master.add("acme", "main").guid


def test_every_byte_passes_and_each_direction_ends_by_itself(operator: Person, master: FakeMaster, tenant: str) -> None:
    """All values of a byte, megabytes, and an answer that begins when the question is over."""
    load = bytes(range(256)) * 16_384
    with serving(targets.echo) as echo, serving(targets.digest) as digest:
        master.tunnels.places = {"echo:7": echo, "digest:7": digest}
        with stdio(operator, "acme", "echo:7") as process:
            out, err = process.communicate(load, END_S)
        assert (out == load, err, process.returncode) == (True, b"", 0)
        with stdio(operator, tenant, "digest:7") as process:
            out, err = process.communicate(load, END_S)
        assert (len(out), err, process.returncode) == (64, b"", 0)


def test_files_serve_as_well_as_pipes(operator: Person, master: FakeMaster, tenant: str, tmp_path: Path) -> None:
    """A shell's redirections work."""
    load = os.urandom(1_000_000)
    (tmp_path / "in").write_bytes(load)
    with serving(targets.echo) as echo:
        master.tunnels.places = {"echo:7": echo}
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
            command = [str(PROGRAM), "tunnel", "stdio", tenant, "echo:7"]
            subprocess.run(command, env=operator.surroundings(), stdin=source, stdout=sink, timeout=END_S, check=True)
    assert (tmp_path / "out").read_bytes() == load


def test_the_targets_end_closes_stdout_while_stdin_goes_on(operator: Person, master: FakeMaster, tenant: str) -> None:
    """As with a socket: the reader sees the end, the writer may still write."""
    received: list[bytes] = []

    def greet(here: socket.socket) -> None:
        here.sendall(b"hello")
        here.shutdown(socket.SHUT_WR)
        received.append(targets.read_all(here))

    with serving(greet) as port:
        master.tunnels.places = {"greet:7": port}
        with stdio(operator, tenant, "greet:7") as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.read() == b"hello"
            process.stdin.write(b"late")
            process.stdin.close()
            assert process.wait(END_S) == 0
    assert received == [b"late"]


def test_a_reader_that_stops_holds_up_the_target(operator: Person, master: FakeMaster, tenant: str) -> None:
    """Nothing is heaped up in between: the target is read only as fast as stdout is."""

    def pour(here: socket.socket) -> None:
        while True:
            here.sendall(bytes(1 << 16))

    with serving(pour) as port:
        master.tunnels.places = {"pour:7": port}
        with stdio(operator, tenant, "pour:7") as process:
            assert process.stdout is not None
            read = len(process.stdout.read(1 << 20))
            tunnel = master.tunnels.open_ones()[0]
            assert tunnel.bytes_down - read < 20 << 20
            process.stdout.close()
            assert process.wait(END_S) == EXIT_UNREACHABLE


def test_what_goes_wrong_is_on_stderr_alone(operator: Person, master: FakeMaster, tenant: str) -> None:
    """stdout belongs to the target; the exit codes are those of every command."""
    with serving(targets.reset) as resetting:
        master.tunnels.places = {"nobody:7": targets.nobody(), "reset:7": resetting}
        for words, said, code in (
            ((tenant, "nobody:7"), "TARGET_REFUSED", EXIT_UNREACHABLE),
            ((tenant, "unknown:7"), "TARGET_NOT_FOUND", EXIT_NOT_FOUND),
            ((tenant, "reset:7"), "CONNECTION_BROKEN", EXIT_UNREACHABLE),
            (("nothing", "db:7"), "TENANT_NOT_FOUND", EXIT_NOT_FOUND),
            (("acme", "db"), "FIELD_INVALID", EXIT_USAGE),
        ):
            with stdio(operator, *words, "--output", "json") as process:
                out, err = process.communicate(b"x", END_S)
            assert (out, process.returncode) == (b"", code), err
            assert json.loads(err)["error"]["reason"] == said


def test_what_goes_wrong_is_said_before_stdout_ends(operator: Person, master: FakeMaster, tenant: str) -> None:
    """ssh ends its proxy as soon as stdout ends: somebody who does the same still reads why."""
    with serving(targets.reset) as resetting:
        master.tunnels.places = {"nobody:7": targets.nobody(), "reset:7": resetting}
        for target, said in (("nobody:7", b"refused the connection"), ("reset:7", b"broke off")):
            with stdio(operator, tenant, target) as process:
                assert process.stdin is not None and process.stdout is not None and process.stderr is not None
                process.stdin.write(b"x")
                process.stdin.flush()
                assert process.stdout.read() == b""
                process.send_signal(signal.SIGHUP)
                assert said in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_at_once(operator: Person, master: FakeMaster, tenant: str, number: signal.Signals) -> None:
    """Also while stdin waits for a person, and the tunnel is closed; ssh ends its proxy with SIGHUP."""
    with serving(targets.echo) as echo:
        master.tunnels.places = {"echo:7": echo}
        with stdio(operator, tenant, "echo:7") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.read(1) == b"x"
            process.send_signal(number)
            assert process.wait(END_S) == 128 + number


def test_an_end_of_the_tunnel_is_explained(operator: Person, master: FakeMaster, tenant: str) -> None:
    """It is not opened again: the connection through it is gone."""
    with serving(targets.echo) as echo:
        master.tunnels.places = {"echo:7": echo}
        with stdio(operator, tenant, "echo:7") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.read(1) == b"x"
            end = TunnelEnd.BY_TENANT
            master.tunnels.endings[master.tunnels.open_ones()[0].id] = TunnelClosed(end=end.value, detail="no more")
            assert process.wait(END_S) == EXIT_UNREACHABLE
            assert process.stderr is not None
            assert b"the tunnel is over: no more" in process.stderr.read()
