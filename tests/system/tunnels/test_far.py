"""A Tenant that is far away, and one behind a network that swallows everything.

The long way is a relay of the tests that holds back every byte: not every kernel has netem. It delays and loses nothing.
"""

import contextlib
import hashlib
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.delaying_relay import far_away
from tests.servers.habits import Target, pattern, running_target
from tests.servers.master import running_master
from tests.servers.namespaces import Namespaces, NoNamespaces, two_namespaces
from tests.servers.ports import steady_port
from tests.servers.tunnelling import ROOM, TunnelledTenant, tunnelled_tenant, until
from tests.system.tunnels.conftest import LONG
from tests.system.tunnels.test_connections import connect, read_all
from tests.system.tunnels.test_kills import again, ends, warm_up

pytestmark = pytest.mark.slow
ONE_WAY_S = 0.04
SIZE = (200 if LONG else 20) << 20


def test_a_round_trip_of_80_ms_loses_nothing_and_changes_nothing(tmp_path: Path) -> None:
    """A long way between the daemon and its Master: both directions at once, half-closed, with their checksums."""
    relay = steady_port()
    with far_away(ONE_WAY_S, relay) as far, contextlib.ExitStack() as stack:
        master = stack.enter_context(
            running_master(tmp_path, f"relay_listen=127.0.0.1:{relay}", f"public_relay_port={far}", *ROOM)
        )
        target = stack.enter_context(running_target())
        tenant = stack.enter_context(tunnelled_tenant(master, tmp_path / "tenant"))
        _, (port,) = stack.enter_context(tenant.forward(target.port))
        sent = secrets.token_bytes(SIZE)
        with connect(port, b"d") as up, connect(port, b"g") as down:
            up.sendall(sent)
            up.shutdown(socket.SHUT_WR)
            assert read_all(down) == pattern(1_000_000)
            assert read_all(up) == hashlib.sha256(sent).digest()


@pytest.fixture
def across(tmp_path: Path) -> Iterator[tuple[TunnelledTenant, Target, Namespaces]]:
    """A Master and a target here, a daemon in another network namespace whose policy allows the way back to the target."""
    with contextlib.ExitStack() as stack:
        try:
            network = stack.enter_context(two_namespaces())
        except NoNamespaces as error:
            pytest.skip(f"network namespaces cannot be made: {error}")
        listen = [f"{name}_listen=0.0.0.0:{steady_port()}" for name in ("link", "relay")]
        settings = ("heartbeat_interval=1s", "reconnect_spread=0s", *listen)
        master = stack.enter_context(running_master(tmp_path, *settings, *ROOM))
        target = stack.enter_context(running_target(network.here))
        policy = f'[[allow]]\nhost = "{network.here}"\nports = [{target.port}]\n'
        prefix = ("ip", "netns", "exec", network.name)
        tenant = tunnelled_tenant(master, tmp_path / "tenant", policy, prefix=prefix, host=network.here)
        yield stack.enter_context(tenant), target, network


@pytest.mark.netns
def test_a_network_that_swallows_everything_ends_connections_and_the_next_ones_work(
    across: tuple[TunnelledTenant, Target, Namespaces],
) -> None:
    """Nobody is told that the Tenant is gone: its connections still end, and when it is back new ones go through the same tunnel."""
    tenant, target, network = across
    with tenant.forward(target.port, host=network.here) as (operator, (port,)):
        warm_up(port)
        with connect(port, b"i") as connection:
            assert connection.recv(1)
            network.lose_everything()
            assert ends(connection)
        network.heal()
        until(lambda: tenant.status().get("link", {}).get("connected"), "the link")
        again(lambda: warm_up(port))
        assert operator.poll() is None
