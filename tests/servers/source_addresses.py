"""Connections to a Master from other addresses of this machine: limits count by the source."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

from tests.servers.master import MasterProcess

_numbers = itertools.count(1)


def fresh_address() -> str:
    """An address of the loopback network that no test has used before."""
    number = next(_numbers)
    return f"127.77.{number // 250}.{number % 250 + 1}"


@contextlib.asynccontextmanager
async def seen_from(master: MasterProcess, source: str) -> AsyncIterator[MasterProcess]:
    """The same Master, reached so that its `api` listener sees ``source`` as the peer."""
    host, _, port = master.api_address.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, upstream_writer))
                    group.create_task(_pump(upstream_reader, writer))
            finally:
                upstream_writer.close()
                writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        own_port = server.sockets[0].getsockname()[1]
        yield MasterProcess(master.data, master.token, api_address=f"127.0.0.1:{own_port}")
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
