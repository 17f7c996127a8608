"""What dishonest ends cost the Master: memory with a bound, and nothing that their neighbours feel."""

import asyncio
from collections.abc import Iterator

import pytest

from tenantry.protocol.tunnels.connection import EARLY_BYTES
from tenantry.v1 import tunnel_pb2
from tests.servers.deadlines import within
from tests.servers.dishonest_tunnels import LyingPair, Peak, flood
from tests.servers.master import MasterProcess, running_master
from tests.servers.wire_tunnels import WireTunnel, WireTunnelTenant, opened_tunnel, tunnel_tenant

STREAMS = 100
MOST_GROWTH = 128 << 20
MOST_WAITING = 64 << 20


@pytest.fixture(scope="module")
def fresh_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master whose memory nobody else uses."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h")
    with running_master(tmp_path_factory.mktemp("memory"), *quiet) as running:
        yield running


async def use(tunnel: WireTunnel, tenant: WireTunnelTenant) -> None:
    """Connections of somebody else, one after the other."""
    for number in range(10):
        operator, there = await tunnel.joined(tenant)
        await operator.say(data=b"question %d" % number)
        assert await there.data() == b"question %d" % number


async def test_two_dishonest_ends_cost_little_memory_and_no_neighbour(fresh_master: MasterProcess) -> None:
    """A hundred connections whose ends both promise everything, say all that they may, and read nothing."""
    async with (
        tunnel_tenant(fresh_master, "lies") as tenant,
        tunnel_tenant(fresh_master, "other") as neighbour,
        opened_tunnel(fresh_master, tenant.guid) as tunnel,
        opened_tunnel(fresh_master, neighbour.guid) as other,
    ):
        pairs = [await LyingPair.open(tunnel, tenant) for _ in range(STREAMS)]
        assert pairs[-1].told == (EARLY_BYTES, EARLY_BYTES)
        assert fresh_master.process is not None
        peak = Peak(fresh_master.process.pid)
        async with within(60.0), asyncio.TaskGroup() as group:
            for pair in pairs:
                group.create_task(pair.say_all_that_is_allowed())
            group.create_task(use(other, neighbour))
        await use(other, neighbour)  # what was said is in the Master's sockets; meanwhile it is read
        grown = peak.growth()
        print(f"{STREAMS} connections with two dishonest ends: {grown >> 20} MiB")
        assert grown < MOST_WAITING


async def test_f23_a_tenant_that_floods_its_tunnels_costs_little_memory_and_no_neighbour(
    fresh_master: MasterProcess,
) -> None:
    """A hundred streams that honour no credits towards an operator who promises to read and reads nothing."""
    async with (
        tunnel_tenant(fresh_master, "floods") as tenant,
        tunnel_tenant(fresh_master, "neighbour") as neighbour,
        opened_tunnel(fresh_master, tenant.guid) as tunnel,
        opened_tunnel(fresh_master, neighbour.guid) as other,
    ):
        pairs = [await LyingPair.open(tunnel, tenant) for _ in range(STREAMS)]
        await other.joined(neighbour)
        assert fresh_master.process is not None
        peak = Peak(fresh_master.process.pid)
        async with asyncio.TaskGroup() as group:
            for pair in pairs:
                group.create_task(flood(pair.there))
            group.create_task(use(other, neighbour))
        grown = peak.growth()
        print(f"{STREAMS} streams that flood: {grown >> 20} MiB")
        assert grown < MOST_GROWTH
        for pair in pairs:
            assert (await pair.operator.reset()).end == tunnel_pb2.TUNNEL_END_PROTOCOL
        await tunnel.joined(tenant)
