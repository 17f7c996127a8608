"""``python -m tests.servers.delaying_relay SECONDS PORT``: a long way to a port of loopback. Prints its own port, then serves.

Everything takes so long in each direction, and as much as wanted is under way meanwhile: a far network without losses.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE = 256 * 1024
_UNDER_WAY = 512
"""Pieces that are on their way in one direction: bounds memory, not speed."""
_STOP_S = 20.0


@contextmanager
def far_away(seconds: float, port: int) -> Iterator[int]:
    """The port of a relay in a process of its own, until the block ends."""
    command = [sys.executable, "-m", __name__, str(seconds), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _serve(seconds: float, port: int) -> None:
    relays = set()  # nobody else holds on to the tasks, and they would be collected

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(asyncio.current_task())
        onwards, back = await asyncio.open_connection("127.0.0.1", port, limit=_PIECE)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_carry(reader, back, seconds), _carry(onwards, writer, seconds))
        for end in (back, writer):
            end.transport.abort()
        relays.discard(asyncio.current_task())

    server = await asyncio.start_server(relay, "127.0.0.1", 0, limit=_PIECE, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

    async def send() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def receive() -> None:
        data = b"?"
        while data:
            data = await reader.read(_PIECE)
            await under_way.put((loop.time() + seconds, data))

    await asyncio.gather(send(), receive())


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
