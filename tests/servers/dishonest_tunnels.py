"""Ends of tunnels that lie: they promise to take much and read nothing, honour no credits, or send a byte at a time."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc.aio

from tenantry.protocol.tunnels.connection import LARGEST_ALLOWED
from tests.servers.wire_tunnels import WireStream, WireTunnel, WireTunnelTenant

FLOOD: Final = 8 * [bytes(512 * 1024)]
"""What one stream sends at once, credits or not: together several times what a Master may grow by."""
PIECE: Final = bytes(32 * 1024)


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


class LyingPair:
    """Both ends of a connection, each of which has promised to take as much as there may be."""

    def __init__(self, operator: WireStream, there: WireStream, told: tuple[int, int]) -> None:
        self.operator = operator
        self.there = there
        self.told = told
        """What the Master has told the operator's end, and the Tenant's, that they may send."""

    @classmethod
    async def open(cls, tunnel: WireTunnel, tenant: WireTunnelTenant) -> "LyingPair":
        """One more connection through this tunnel."""
        operator = await tunnel.dial(window=LARGEST_ALLOWED)
        there = await tenant.answer((await tenant.ticket()).nonce, LARGEST_ALLOWED)
        return cls(operator, there, (await operator.joined(), await there.joined()))

    async def say_all_that_is_allowed(self) -> None:
        """Both ends say what they were told that they may, and read nothing: no rule is broken, and all of it waits at the Master."""
        for stream, told in zip((self.operator, self.there), self.told, strict=True):
            for piece in pieces(told):
                await stream.say(data=piece)


def pieces(count: int) -> Iterator[bytes]:
    """So many bytes, in pieces."""
    for place in range(0, count, len(PIECE)):
        yield PIECE[: count - place]


async def flood(stream: WireStream) -> None:
    """Send without looking at credits, until the Master has ended the stream or all is sent."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for part in FLOOD:
            await stream.say(data=part)
