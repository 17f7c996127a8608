"""What an older link writes after a newer one has begun. The museum of bugs runs the same."""

import asyncio
import contextlib
import copy
import random

import grpc.aio

from tenantry.protocol.messages import Batch, Stream
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records
from tests.servers.wire_tenant import LAYOUT, WireLink, WireTenant, enrolled, move, open_link

# Each commit takes this long, so that an older link's batch can wait behind the Hello of the newer one.
SLOW_COMMITS = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": "ingest.after_commit=sleep:0.15"}
SLOW_S = 0.15


async def check_late_writes(master: MasterProcess, chance: random.Random, rounds: int) -> None:
    """Whatever the newer link was told is all that is stored, until it stores something itself. Raises AssertionError."""
    for number in range(rounds):
        tenant = WireTenant(await enrolled(master, f"late {number} {chance.random()}"))
        guid = tenant.identity.guid
        async with open_link(master, tenant.identity) as link:
            await link.open(tenant)
        await move(master, guid, "Activate")
        async with open_link(master, tenant.identity) as older, open_link(master, tenant.identity) as newer:
            await older.open(tenant)
            await older.store(tenant, Stream.METRICS, tenant.frames(1, start_ms=1))
            twin = copy.deepcopy(tenant)
            async with asyncio.TaskGroup() as tasks:
                opening = tasks.create_task(newer.open(twin))
                await asyncio.sleep(chance.uniform(0.0, SLOW_S))  # the moment is drawn: behind the Hello, or before it
                tasks.create_task(_write_late(older, tenant.batch(Stream.METRICS, tenant.frames(3, start_ms=100_000))))
            told = next(mark.last_seq for mark in opening.result().marks if mark.stream is Stream.METRICS)
            stored = len(await read_records(master, "metricsMaster", guid)) // len(LAYOUT.series)
            assert stored == told, f"the newer link was told {told}, and {stored} are stored: the older one wrote on"


async def _write_late(link: WireLink, batch: Batch) -> None:
    """Send, and read until the Master ends the link."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, EOFError):
        await link.send(batch)
        while True:
            await link.read()
