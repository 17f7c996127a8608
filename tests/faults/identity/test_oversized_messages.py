"""F26: messages that are too large, bombs, large metadata and garbage: that call ends, nothing else does, memory stays."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from tenantry.protocol.messages import StatePush, Stream
from tests.servers.descriptors import Rpc, api_rpcs, every_rpc
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records, tenant_of
from tests.servers.refusals import snapshot
from tests.servers.wire_tenant import Identity, WireTenant, create_tenant, enrolled, move, open_link

LIMIT = 1 << 20
GROWTH = 24 << 20
"""Far less than what is packed, and more than what a Master needs when something happens for the first time."""
CREATE = "/tenantry.v1.TenantService/CreateTenant"
CONNECT = "/tenantry.v1.LinkService/Connect"

GARBAGE = {
    "garbage": b"\xff" * 64,
    "a length beyond the end": b"\x0a\xff\xff\xff\x7f",
    "nested 50,000 times": b"\x0b" * 50_000,
    "a group without an end": b"\x0b",
    "nothing but zeros": b"\x00" * 1_000,
    "text that is not UTF-8": b"\x0a\x02\x12\x00" + b"\x12\x04\xff\xfe\xfd\xfc",
}


async def send_bytes(
    channel: grpc.aio.Channel, method: str, data: bytes, metadata: tuple[tuple[str, str], ...] = (), **options: object
) -> grpc.aio.AioRpcError:
    """Send these bytes as a request, which must be refused; the refusal."""
    stub: Any = channel.unary_unary(method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(data, metadata=metadata, timeout=60, **options)
    return caught.value


async def send_on_link(
    master: MasterProcess, identity: Identity, data: bytes, **options: object
) -> grpc.aio.AioRpcError:
    """Send these bytes as the first message of a link, which must be refused; the refusal."""
    async with master.link_channel(identity.key, identity.chain) as channel:
        connect: Any = channel.stream_stream(CONNECT)
        call = connect(timeout=60, **options)
        try:
            await call.write(data)
            await call.read()
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the link goes on")


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_f26_messages_beyond_the_limit_end_their_call_alone(
    master: MasterProcess, compression: grpc.Compression
) -> None:
    """One byte too many, and 100 MiB of zeros packed into 100 KiB (on a link nothing packed is taken): refused, all else as before."""
    identity = await enrolled(master, f"oversized {compression}")
    size = LIMIT + 1 if compression is grpc.Compression.NoCompression else 100 << 20
    assert master.process is not None
    process = psutil.Process(master.process.pid)
    before, memory = snapshot(master), process.memory_info().rss
    async with master.api_channel() as channel:
        error = await send_bytes(channel, CREATE, bytes(size), master.metadata, compression=compression)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        on_link = await send_on_link(master, identity, bytes(size), compression=compression)
        plain = compression is grpc.Compression.NoCompression
        assert on_link.code() is (grpc.StatusCode.RESOURCE_EXHAUSTED if plain else grpc.StatusCode.UNIMPLEMENTED)
        assert snapshot(master) == before
        assert process.memory_info().rss - memory < GROWTH
        clock: Any = channel.unary_unary("/tenantry.v1.EnrolmentService/GetServerTime")
        await clock(b"", timeout=60)


async def test_f26_metadata_beyond_the_limit_is_refused_each_time(master: MasterProcess) -> None:
    """9,000 bytes are always refused, 6,000 never: soft and hard limit are one."""
    async with master.api_channel() as channel:
        clock: Any = channel.unary_unary("/tenantry.v1.EnrolmentService/GetServerTime")
        for _ in range(10):
            await clock(b"", metadata=(("x-padding", "x" * 6_000),), timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await clock(b"", metadata=(("x-padding", "x" * 9_000),), timeout=60)
            assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("name", sorted(GARBAGE))
async def test_f26_garbage_is_refused_by_every_rpc_of_the_api(master: MasterProcess, name: str) -> None:
    """Bytes that are no message: an error for that call, never a hang, and nothing is changed."""
    before = snapshot(master)
    async with master.api_channel() as channel:
        for rpc in api_rpcs():
            if not rpc.method.input_type.fields:
                continue  # everything is an unknown field there, and skipped
            if rpc.method.name == "EnrolSecondFactor":
                continue  # its one text is the password, which the administrator here has not: any text is right
            error = await _garbage(channel, rpc, GARBAGE[name], master.metadata)
            assert error is None or error.code() in (
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.UNKNOWN,
                grpc.StatusCode.FAILED_PRECONDITION,  # a Master without an OpenID provider
                grpc.StatusCode.UNAUTHENTICATED,
            ), f"{rpc.path}: {error}"
    assert snapshot(master) == before


async def _garbage(
    channel: grpc.aio.Channel, rpc: Rpc, data: bytes, metadata: tuple[tuple[str, str], ...]
) -> grpc.aio.AioRpcError | None:
    stub: Any = (channel.unary_stream if rpc.method.server_streaming else channel.unary_unary)(rpc.path)
    call = stub(data, metadata=metadata, timeout=60)
    try:
        if rpc.method.server_streaming:
            await call.read()
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


@pytest.mark.parametrize("name", sorted(GARBAGE))
async def test_f26_garbage_ends_a_link_with_a_reason_and_no_other_link(master: MasterProcess, name: str) -> None:
    """The neighbour's stream goes on while the garbage is refused."""
    identity = await enrolled(master, f"garbage {name}")
    neighbour = WireTenant(await enrolled(master, f"beside garbage {name}"))
    async with open_link(master, neighbour.identity) as link:
        await link.open(neighbour)
        await move(master, neighbour.identity.guid, "Activate")
        await link.read_until(StatePush)
        error, _ = await asyncio.gather(
            send_on_link(master, identity, GARBAGE[name]),
            link.store(neighbour, Stream.METRICS, neighbour.frames(5)),
        )
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
    assert len(await read_records(master, "metricsMaster", neighbour.identity.guid)) == 5 * 2
    assert (await tenant_of(master, identity.guid)).host_name == ""


async def test_f26_after_all_of_that_the_master_serves(master: MasterProcess) -> None:
    """A new Tenant registers, enrols and connects."""
    assert every_rpc()
    await create_tenant(master, "after the garbage")
