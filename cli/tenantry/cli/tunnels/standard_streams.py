"""One connection between a target and this process's own stdin and stdout, as `ssh -o ProxyCommand` wants it.

stdin and stdout may be anything: pipes, sockets, terminals, files. What is no socket cannot be waited for without changing it for
others who have it open too, so that each has a thread that blocks, on the other side of a pair of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import threading
from typing import Final, Self

from tenantry.cli.connection import Master
from tenantry.cli.troubles import ConnectionBroken
from tenantry.cli.tunnels.connecting import Connection
from tenantry.cli.tunnels.holding import HeldTunnel, Wish
from tenantry.cli.tunnels.running import tell, together
from tenantry.protocol.tunnels.targets import Target

READ: Final = 1 << 20
PIPE: Final = 1 << 20
STDIN: Final = 0
STDOUT: Final = 1


async def relay_standard_streams(master: Master, wish: Wish, target: Target) -> None:
    """Copy between stdin, stdout and the target until both have said all. Raises the Failure or the Trouble of any other end.

    The end of stdin is passed on as the end of this direction alone; stdout is closed when the target has said all.
    """
    async with together() as group:
        held = HeldTunnel(master, wish, tell, again=False)
        holding = group.create_task(held.hold())
        leave = await held.leave()
        with _Bridge() as bridge:
            connection = Connection(master, leave, target)
            try:
                await connection.relay(bridge.end)
            except ConnectionBroken:
                if connection.cut:
                    await holding  # which raises why
                raise
            await bridge.written()
        holding.cancel()


class _Bridge:
    """A socket whose other side is stdin and stdout; a context manager."""

    def __init__(self) -> None:
        self.end, self._other = socket.socketpair()
        self.end.setblocking(False)
        # The other side sees an end where the target has said all, and not where the connection broke off and `end` was closed.
        self._held = self.end.dup()
        self._broken = False
        self._loop = asyncio.get_running_loop()
        self._all_written = asyncio.Event()

    def __enter__(self) -> Self:
        # A thread that waits for a person's next key, or for a reader of stdout, must not hold up the end of the process: daemons.
        for work in (self._read_stdin, self._write_stdout):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._broken = kind is not None
        # Not closed: the thread that waits for stdin knows it by its number, which must not become another file's meanwhile.
        with contextlib.suppress(OSError):
            self._other.shutdown(socket.SHUT_RDWR)
        self.end.close()
        self._held.close()

    async def written(self) -> None:
        """The connection is over in order: wait until stdout has taken everything that came."""
        with contextlib.suppress(OSError):
            self._held.shutdown(socket.SHUT_WR)
        await self._all_written.wait()

    def _read_stdin(self) -> None:
        with contextlib.suppress(OSError):
            _copy(STDIN, self._other.fileno())
        with contextlib.suppress(OSError):
            self._other.shutdown(socket.SHUT_WR)

    def _write_stdout(self) -> None:
        try:
            _copy(self._other.fileno(), STDOUT)
            # Whoever reads must see the end now; the descriptor itself stays valid for the interpreter's own end. Not where the
            # connection broke off: ssh ends its proxy as soon as it sees an end, and why would not be said any more.
            if not self._broken:
                os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
        except OSError:
            # Nobody reads any more: the target hears of it as of any peer that is gone.
            with contextlib.suppress(OSError):
                self._other.shutdown(socket.SHUT_RDWR)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop may be over
                self._loop.call_soon_threadsafe(self._all_written.set)


def _copy(source: int, sink: int) -> None:
    """Copy from one descriptor to another until the end. Raises OSError.

    Not by splice(2), which would cost less: while it waits, it holds the pipe's lock, and ssh at the other side stands still with it.
    """
    for end in (source, sink):
        with contextlib.suppress(OSError, AttributeError):  # it is no pipe, or not Linux
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE)
    while data := os.read(source, READ):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(sink, rest) :]
