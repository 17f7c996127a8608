"""What people without a key can make the Master hold: nothing for long, and little at a time."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from tenantry.v1 import tunnel_relay_service_pb2 as pb
from tests.servers.master import MasterProcess, running_master

CALLS = 150
MESSAGE = 1_000_000
HELD_MB = 60.0
"""Of 150 MB that were sent."""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master with its defaults."""
    with running_master(tmp_path_factory.mktemp("strangers"), "compaction.interval=1d") as running:
        yield running


def megabytes(master: MasterProcess) -> float:
    """What the Master holds in memory."""
    assert master.process is not None
    return float(psutil.Process(master.process.pid).memory_info().rss / 1e6)


@pytest.mark.parametrize("at_once", [1, 30])
@pytest.mark.parametrize(
    "message",
    [b"\x2a" + b"y" * MESSAGE, pb.DialRequest(begin=pb.DialBegin(key="k" * MESSAGE)).SerializeToString()],
    ids=["garbage", "a large key"],
)
async def test_a_refused_begin_is_not_kept(master: MasterProcess, message: bytes, at_once: int) -> None:
    """Large first messages, one after the other and side by side, are refused and gone."""
    turns = asyncio.Semaphore(at_once)
    async with master.tunnels_channel() as channel:
        dial: Any = channel.stream_stream("/tenantry.v1.TunnelRelayService/Dial")

        async def refused() -> bool:
            async with turns:
                call = dial(timeout=60.0)
                try:
                    await call.write(message)
                    await call.read()
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    pass  # the refusal may come before the message is through
                return await call.code() is grpc.StatusCode.INVALID_ARGUMENT

        await refused()
        before = megabytes(master)
        assert all(await asyncio.gather(*(refused() for _ in range(CALLS))))
        assert megabytes(master) < before + HELD_MB
