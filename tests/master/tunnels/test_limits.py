"""How many tunnels, connections and dials there may be, and for how long; by the Master's own clocks."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tenantry.protocol.failures import TunnelClosed, TunnelNotOffered, TunnelsTooMany
from tenantry.v1 import tunnel_pb2
from tests.servers.master import MasterProcess, running_master
from tests.servers.refusals import check_refusal, refused
from tests.servers.wire_tunnels import WireStream, asked_tunnel, opened_tunnel, tunnel_tenant

LIMITS = (
    "tunnels.per_tenant=2",
    "tunnels.per_master=3",
    "tunnels.connections=3",
    "tunnels.connections_per_tenant=4",
    "tunnels.longest=3s",
    "tunnels.idle=1s",
)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master with narrow limits."""
    with running_master(tmp_path_factory.mktemp("limits"), "compaction.interval=1d", *LIMITS) as running:
        yield running


async def test_there_are_only_so_many_tunnels(master: MasterProcess) -> None:
    """At one Tenant, and at all together; one that has ended makes room."""
    async with (
        tunnel_tenant(master, f"first {secrets.token_hex(4)}") as first,
        tunnel_tenant(master, f"second {secrets.token_hex(4)}") as second,
        opened_tunnel(master, first.guid),
        opened_tunnel(master, first.guid),
        asked_tunnel(master, first.guid) as read,
    ):
        with refused(TunnelsTooMany):
            await read()
        async with opened_tunnel(master, second.guid), asked_tunnel(master, second.guid) as read:
            with refused(TunnelsTooMany):
                await read()


async def test_there_are_only_so_many_connections(master: MasterProcess) -> None:
    """Through one tunnel, and to one Tenant; one that has ended makes room."""
    async with (
        tunnel_tenant(master, f"connections {secrets.token_hex(4)}") as tenant,
        opened_tunnel(master, tenant.guid) as tunnel,
        opened_tunnel(master, tenant.guid) as other,
    ):
        ends = [await tunnel.joined(tenant) for _ in range(3)]
        with refused(TunnelsTooMany):
            await (await tunnel.dial()).hear()
        await other.joined(tenant)
        with refused(TunnelsTooMany):
            await (await other.dial()).hear()
        operator, there = ends[0]
        operator.cancel()
        await there.reset()
        await tunnel.joined(tenant)


async def test_a_tunnel_ends_when_nothing_goes_through_it(master: MasterProcess) -> None:
    """Its connections are reset with it."""
    async with (
        tunnel_tenant(master, f"idle {secrets.token_hex(4)}") as tenant,
        opened_tunnel(master, tenant.guid) as tunnel,
    ):
        operator, there = await tunnel.joined(tenant)
        for stream in (operator, there):
            assert (await stream.reset()).end == tunnel_pb2.TUNNEL_END_IDLE
        check_refusal(await tunnel.over(), TunnelClosed, end="idle")


async def test_a_tunnel_ends_when_its_time_is_over_whatever_goes_through_it(master: MasterProcess) -> None:
    """The request may ask for less than the Master allows, and gets no more."""
    async with (
        tunnel_tenant(master, f"long {secrets.token_hex(4)}") as tenant,
        opened_tunnel(master, tenant.guid, duration={"seconds": 2}) as tunnel,
        opened_tunnel(master, tenant.guid, duration={"seconds": 600}) as longer,
    ):
        for one, seconds in ((tunnel, 2), (longer, 3)):
            shown = one.answers[-1].tunnel
            assert shown.end_time.ToMilliseconds() - shown.create_time.ToMilliseconds() == seconds * 1000
        operator, there = await tunnel.joined(tenant)
        while (answer := await _exchange(operator, there)).WhichOneof("message") == "data":
            pass
        assert answer.reset.end == tunnel_pb2.TUNNEL_END_LONGEST


async def _exchange(operator: WireStream, there: WireStream) -> Any:
    """Send a byte, if that is still possible; what the Tenant's end hears."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await operator.say(data=b"x")
    return await there.hear()


@asynccontextmanager
async def without_tunnels(folder: Path) -> AsyncIterator[MasterProcess]:
    """A Master that serves none."""
    with running_master(folder, "tunnels_listen=off") as running:
        yield running


async def test_tunnels_can_be_turned_off(tmp_path: Path) -> None:
    """Then there is no listener, and who asks is told so."""
    async with without_tunnels(tmp_path) as master:
        assert (master.tunnels_address, master.relay_address) == ("", "")
        async with tunnel_tenant(master, "none") as tenant, asked_tunnel(master, tenant.guid) as read:
            with refused(TunnelNotOffered):
                await read()
