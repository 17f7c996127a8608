"""The event loop that gRPC wakes once for all that has come."""

import asyncio
import socket
from typing import Any

import grpc.aio
import pytest

from tenantry.master.bootstrap import waking
from tenantry.master.bootstrap.waking import WokenLoop

EVENTS = 50


class Queue:
    """Reads its socket as gRPC's completion queue does: a byte, then whatever has come."""

    def __init__(self, woken: socket.socket) -> None:
        self.woken = woken
        self.waiting = self.taken = self.calls = 0
        self.done = asyncio.Event()

    def _handle_events(self) -> None:
        self.woken.recv(1)
        self.calls += 1
        self.taken, self.waiting = self.taken + self.waiting, 0
        self.done.set()

    def other(self) -> None:
        """A reader that is nothing special."""
        self.woken.recv(1)
        self.calls += 1
        if self.calls % EVENTS == 0:
            self.done.set()


@pytest.mark.parametrize("own", [True, False], ids=["gRPC's reader", "another reader"])
def test_many_events_wake_the_reader_of_grpc_once(*, own: bool) -> None:
    """Every event is taken, by one call for all bytes that are there; any other reader is called for what it leaves."""

    async def wake() -> Queue:
        read, write = socket.socketpair()
        with read, write:
            read.setblocking(False)
            queue = Queue(read)
            loop = asyncio.get_running_loop()
            loop.add_reader(read, queue._handle_events if own else queue.other)
            for _ in range(2):
                queue.waiting = EVENTS
                write.sendall(bytes(EVENTS))
                await queue.done.wait()
                queue.done.clear()
            loop.remove_reader(read)
            with pytest.raises(BlockingIOError):
                read.recv(1)
        return queue

    with asyncio.Runner(loop_factory=WokenLoop) as runner:
        queue = runner.run(wake())
    assert queue.calls == (2 if own else 2 * EVENTS)
    assert queue.taken == (2 * EVENTS if own else 0)


def test_grpc_is_read_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The completion queue of the gRPC that is installed is recognised."""
    woken = 0
    read_last = waking._read_last

    def count(*arguments: Any) -> None:
        nonlocal woken
        woken += 1
        read_last(*arguments)

    monkeypatch.setattr(waking, "_read_last", count)

    async def call() -> None:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
        await server.stop(None)

    with asyncio.Runner(loop_factory=WokenLoop) as runner:
        runner.run(call())
    assert woken
