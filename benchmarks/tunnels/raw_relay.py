"""``python -m benchmarks.tunnels.raw_relay TARGET_PORT``: an asyncio relay without gRPC and TLS. Prints its port, then serves."""

import asyncio
import contextlib
import socket
import sys
from functools import partial

import uvloop

_READ = 256 * 1024
_relays: set[asyncio.Task[None] | None] = set()
"""Those at work: nobody else holds on to them, and they would be collected."""


async def _serve(port: int) -> None:
    server = await asyncio.start_server(partial(_relay, port), "127.0.0.1", 0, limit=_READ, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.current_task()
    _relays.add(task)
    try:
        await _both_ways(port, reader, writer)
    finally:
        _relays.discard(task)


async def _both_ways(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    onwards, back = await asyncio.open_connection("127.0.0.1", port, limit=_READ)
    # A peer that resets: the loop says so in one way or the other.
    with contextlib.suppress(ConnectionError, RuntimeError):
        await asyncio.gather(_copy(reader, back), _copy(onwards, writer))
    for end in (writer, back):
        end.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    sink.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := await source.read(_READ):
        sink.write(data)
        await sink.drain()
    sink.write_eof()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
