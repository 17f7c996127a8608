"""What a dishonest end costs the Master: memory with a bound, and nothing that its neighbours feel."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from tenantry.protocol.tunnels.connection import LARGEST_ALLOWED
from tenantry.v1 import tunnel_pb2
from tests.servers.master import MasterProcess, running_master
from tests.servers.wire_tunnels import WireStream, WireTunnel, WireTunnelTenant, opened_tunnel, tunnel_tenant

STREAMS = 100
FLOOD = 8 * [bytes(512 * 1024)]
"""What one stream sends at once, credits or not: together several times what the Master may grow by."""
MOST_GROWTH = 128 << 20


@pytest.fixture
def fresh_master(tmp_path: Path) -> Iterator[MasterProcess]:
    """A Master whose memory nobody has used yet."""
    with running_master(tmp_path, "compaction.interval=1d", "stale_after=6h", "lost_after=12h") as running:
        yield running


class Peak:
    """The most resident memory that a process had since this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")
        self._before = self._bytes("VmRSS")

    def growth(self) -> int:
        """By how many bytes more it was than at first."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        line = next(line for line in (self._folder / "status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


async def promising(tunnel: WireTunnel, tenant: WireTunnelTenant) -> tuple[WireStream, WireStream]:
    """A connection whose operator promises to take as much as there may be."""
    operator = await tunnel.dial(window=LARGEST_ALLOWED)
    there = await tenant.answer((await tenant.ticket()).nonce)
    await operator.joined()
    await there.joined()
    return operator, there


async def flood(stream: WireStream) -> None:
    """Send without looking at credits, until the Master has ended the stream or all is sent."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for part in FLOOD:
            await stream.say(data=part)


async def use(tunnel: WireTunnel, tenant: WireTunnelTenant) -> None:
    """Connections of somebody else, one after the other."""
    for number in range(10):
        operator, there = await tunnel.joined(tenant)
        await operator.say(data=b"question %d" % number)
        assert await there.data() == b"question %d" % number


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
        ends = [await promising(tunnel, tenant) for _ in range(STREAMS)]
        await other.joined(neighbour)
        assert fresh_master.process is not None
        peak = Peak(fresh_master.process.pid)
        async with asyncio.TaskGroup() as group:
            for _, there in ends:
                group.create_task(flood(there))
            group.create_task(use(other, neighbour))
        grown = peak.growth()
        print(f"{STREAMS} streams that flood: {grown >> 20} MiB")
        assert grown < MOST_GROWTH
        for operator, _ in ends:
            assert (await operator.reset()).end == tunnel_pb2.TUNNEL_END_PROTOCOL
        await tunnel.joined(tenant)
