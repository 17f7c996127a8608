"""A TCP proxy between daemons and their Master: cuts connections after random bytes, delays, lets nothing through in one direction."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_CHUNK = 16_384


@dataclass
class FaultyProxy:
    """Forwards to ``upstream``. What it does to connections can be changed at any moment."""

    chance: random.Random
    upstream: tuple[str, int] = ("127.0.0.1", 1)
    port: int = 0
    allowance: Callable[[random.Random], int] | None = None
    """Draws for each new connection how many bytes, of both directions together, pass before it is cut."""
    delay_s: float = 0.0
    """How long everything takes in each direction, as over a satellite."""
    cuts: int = 0
    connections: int = 0
    sent_up: int = 0
    sent_down: int = 0
    _answers_flow: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def swallow_answers(self) -> None:
        """From now on nothing comes back from the Master; what daemons send still arrives."""
        self._answers_flow.clear()

    def let_answers_through(self) -> None:
        """Answers flow again."""
        self._answers_flow.set()

    def cut_all(self) -> None:
        """Cut what is open."""
        for task in list(self._open):
            task.cancel()

    async def serve(self, down_reader: asyncio.StreamReader, down_writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        allowance = [self.allowance(self.chance) if self.allowance is not None else -1]
        up_writer: asyncio.StreamWriter | None = None
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(down_reader, up_writer, allowance, up=True))
                group.create_task(self._pump(up_reader, down_writer, allowance, up=False))
        except* (OSError, asyncio.CancelledError, _Cut):
            pass
        finally:
            self._open.discard(task)
            for writer in (up_writer, down_writer):
                if writer is None:
                    continue
                # At random a reset, which throws away what is under way, or an orderly end after half a message.
                if self.chance.random() < 0.5:
                    writer.transport.abort()
                else:
                    writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowance: list[int], *, up: bool
    ) -> None:
        while True:
            if not up:
                await self._answers_flow.wait()
            data = await reader.read(_CHUNK)
            if not data:
                raise _Cut
            await asyncio.sleep(self.delay_s)
            if not up:
                await self._answers_flow.wait()
            if 0 <= allowance[0] <= len(data):
                writer.write(data[: allowance[0]])
                with contextlib.suppress(OSError):
                    await writer.drain()
                self.cuts += 1
                raise _Cut
            if allowance[0] >= 0:
                allowance[0] -= len(data)
            writer.write(data)
            if up:
                self.sent_up += len(data)
            else:
                self.sent_down += len(data)
            await writer.drain()


class _Cut(Exception):
    """This connection ends."""


@contextlib.asynccontextmanager
async def faulty_proxy(chance: random.Random) -> AsyncIterator[FaultyProxy]:
    """A proxy that listens on a free port and is faultless at first."""
    proxy = FaultyProxy(chance)
    proxy.let_answers_through()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        tasks = list(proxy._open)
        proxy.cut_all()
        await asyncio.gather(*tasks, return_exceptions=True)
