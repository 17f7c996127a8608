"""The end between a socket and a stream, with real sockets; the stream is two queues, and between them what the Master checks."""

import asyncio
import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tenantry.protocol.tunnels.budget import FIRST_WINDOW, LARGEST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import EARLY_BYTES, EndLimits
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import MAX_DATA, Credit, Data, Fin, Joined, Reset, decode_frame, encode_frame
from tenantry.protocol.tunnels.sharing import BESIDE_TALK, CONVERSATION
from tenantry.protocol.tunnels.watch import RelayWatch, Side
from tenantry.transport.tunnel_ends import EndReport, Flow, SocketEnd

PATIENCE_S = 20.0
RESET = struct.pack("ii", 1, 0)


class Queues:
    """A stream of frames: what the end reads and what it has written. Bounded as a stream is."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.outgoing: asyncio.Queue[bytes] = asyncio.Queue(4)

    async def read(self) -> bytes | None:
        return await self.incoming.get()

    async def write(self, message: bytes) -> None:
        await self.outgoing.put(message)

    async def said(self) -> object:
        """The next frame that the end has written."""
        async with asyncio.timeout(PATIENCE_S):
            return decode_frame(await self.outgoing.get())


@dataclass
class Pair:
    """Two ends that are joined; the sockets at their far sides, and what the Master counted."""

    near: socket.socket
    far: socket.socket
    passed: dict[Side, int]
    reports: dict[Side, EndReport]
    ends: dict[Side, SocketEnd]
    done: asyncio.Event


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection of loopback, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    for sock in (one, two):
        sock.setblocking(False)
    return one, two


@asynccontextmanager
async def joined(budget: Budget | None = None, limits: EndLimits | None = None) -> AsyncIterator[Pair]:
    """An operator's end and a Tenant's, and a Master between them that ends both streams when everything was said."""
    budget = budget if budget is not None else Budget()
    watch, passed = RelayWatch(), dict.fromkeys(Side, 0)
    near, own = tcp_pair()
    other, far = tcp_pair()
    ports = {side: Queues() for side in Side}
    ends = {
        Side.OPERATOR: SocketEnd(own, ports[Side.OPERATOR], side=Side.OPERATOR, budget=budget, limits=limits),
        Side.TENANT: SocketEnd(other, ports[Side.TENANT], side=Side.TENANT, budget=budget, limits=limits),
    }
    both = Pair(near, far, passed, {}, ends, asyncio.Event())

    async def master(side: Side) -> None:
        onwards = ports[side.other].incoming
        while True:
            message = await ports[side].outgoing.get()
            passed[side] += watch.take(side, message)
            onwards.put_nowait(message)
            if watch.finished or watch.reset is not None:
                for port in ports.values():
                    port.incoming.put_nowait(None)

    async def run(side: Side) -> None:
        both.reports[side] = await ends[side].run()
        if len(both.reports) == len(Side):
            both.done.set()

    for port in ports.values():
        port.incoming.put_nowait(encode_frame(Joined(FIRST_WINDOW)))
    async with asyncio.TaskGroup() as group:
        masters = [group.create_task(master(side)) for side in Side]
        runs = [group.create_task(run(side)) for side in Side]
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield both
        finally:
            for task in (*masters, *runs):
                task.cancel()
            near.close()
            far.close()
    assert budget.left == budget.total


async def send_all(sock: socket.socket, content: bytes) -> None:
    """Everything, in pieces of odd sizes, then the end."""
    loop, place, chance = asyncio.get_running_loop(), 0, random.Random(7)
    while place < len(content):
        size = chance.choice([1, 100, 10_000, 700_000])
        await loop.sock_sendall(sock, content[place : place + size])
        place += size
    sock.shutdown(socket.SHUT_WR)


async def receive_all(sock: socket.socket) -> bytes:
    """Everything until the end."""
    loop, parts = asyncio.get_running_loop(), []
    while part := await loop.sock_recv(sock, 300_000):
        parts.append(part)
    return b"".join(parts)


async def test_bytes_pass_both_ways_at_once_and_each_direction_ends_by_itself() -> None:
    """What comes out is what went in; both ends and the Master count the same."""
    up, down = random.Random(1).randbytes(9_000_000), random.Random(2).randbytes(3_000_001)
    async with joined() as both:
        _, _, at_far, at_near = await asyncio.gather(
            send_all(both.near, up), send_all(both.far, down), receive_all(both.far), receive_all(both.near)
        )
        await both.done.wait()
    assert hashlib.sha256(at_far).digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(at_near).digest() == hashlib.sha256(down).digest()
    expected = EndReport(TunnelEnd.FINISHED, "", len(up), len(down))
    assert both.reports == {Side.OPERATOR: expected, Side.TENANT: expected}
    assert both.passed == {Side.OPERATOR: len(up), Side.TENANT: len(down)}


async def test_a_half_close_lets_the_answer_through() -> None:
    """A server that answers only behind the end of the request, with more than any buffer holds."""
    answer = bytes(range(256)) * 40_000
    async with joined() as both:
        await send_all(both.near, b"request")
        assert await receive_all(both.far) == b"request"
        _, got = await asyncio.gather(send_all(both.far, answer), receive_all(both.near))
        await both.done.wait()
    assert got == answer


async def test_a_reset_is_passed_on_as_a_reset() -> None:
    """Whoever is at the other side sees the connection reset, not ended in order."""
    async with joined() as both:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(both.near, b"x")
        assert await loop.sock_recv(both.far, 10) == b"x"
        both.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        both.near.close()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(both.far, 10)
        await both.done.wait()
    assert {report.end for report in both.reports.values()} == {TunnelEnd.RESET}
    assert both.reports[Side.TENANT].bytes_up == 1


async def test_an_end_can_be_reset_from_outside() -> None:
    """Both sockets are reset at once, and both reports say why."""
    async with joined() as both:
        loop = asyncio.get_running_loop()
        both.ends[Side.TENANT].reset(TunnelEnd.BY_TENANT, "the button")
        for sock in (both.near, both.far):
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(sock, 10)
        await both.done.wait()
    for report in both.reports.values():
        assert (report.end, report.detail) == (TunnelEnd.BY_TENANT, "the button")


async def test_a_reader_that_stops_holds_no_more_than_a_window() -> None:
    """The other end stops at what it was allowed, and everything arrives once the reader goes on."""
    content = random.Random(3).randbytes(12_000_000)
    async with joined() as both:
        both.far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sending = asyncio.get_running_loop().create_task(send_all(both.near, content))
        while both.ends[Side.OPERATOR]._core.sendable:  # noqa: ASYNC110 - nothing happens when it is over
            await asyncio.sleep(0.01)
        end = both.ends[Side.TENANT]
        assert end._core.backlog <= LARGEST_WINDOW
        assert both.passed[Side.OPERATOR] < len(content)
        assert await receive_all(both.far) == content
        await sending


async def test_many_tiny_pieces_weigh_no_more_than_their_bytes() -> None:
    """What waits for a socket is put together, so that nobody can make a daemon hold an object for each byte."""
    port = Queues()
    far, own = tcp_pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    end = SocketEnd(own, port, side=Side.TENANT, budget=Budget(), peer_window=FIRST_WINDOW)
    end._backlog.append(bytearray(b"the socket is full"))
    for _ in range(50_000):
        end._core.receive_data(1, 0.0)
        end._deliver(memoryview(b"x"))
    assert sum(map(len, end._backlog)) == 50_000 + 18
    assert len(end._backlog) < 10
    end.reset(TunnelEnd.RESET)
    far.close()


async def test_a_stream_that_ends_without_a_fin_resets_the_socket() -> None:
    """A daemon or a Master that was killed leaves no half-open connection behind."""
    port = Queues()
    far, own = tcp_pair()
    port.incoming.put_nowait(encode_frame(Joined(FIRST_WINDOW)))
    port.incoming.put_nowait(None)
    report = await SocketEnd(own, port, side=Side.OPERATOR, budget=Budget()).run()
    assert (report.end, report.detail) == (TunnelEnd.RESET, "the stream ended")
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(far, 1)
    far.close()


async def test_a_peer_that_breaks_the_rules_is_told_and_cut_off() -> None:
    """More than it was allowed: a reset that says so, and nothing of it reaches the socket behind the violation."""
    port = Queues()
    far, own = tcp_pair()
    too_much = encode_frame(Data(memoryview(bytes(FIRST_WINDOW + 1))))
    port.incoming.put_nowait(too_much)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(SocketEnd(own, port, side=Side.TENANT, budget=Budget(), peer_window=FIRST_WINDOW).run())
        said = await port.said()
        assert isinstance(said, Reset) and said.end is TunnelEnd.PROTOCOL
        port.incoming.put_nowait(None)
    assert run.result().end is TunnelEnd.PROTOCOL
    far.close()


async def test_a_little_is_sent_before_the_other_end_is_there() -> None:
    """The first bytes do not wait for a round trip; the rest does."""
    port = Queues()
    far, own = tcp_pair()
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(SocketEnd(own, port, side=Side.OPERATOR, budget=Budget()).run())
        await loop.sock_sendall(far, bytes(EARLY_BYTES + 10_000))
        early = 0
        while early < EARLY_BYTES:
            frame = await port.said()
            assert isinstance(frame, Data)
            early += len(frame.payload)
        assert early == EARLY_BYTES and port.outgoing.empty()
        port.incoming.put_nowait(encode_frame(Joined(FIRST_WINDOW)))
        frame = await port.said()
        assert isinstance(frame, Data) and len(frame.payload) == 10_000
        far.shutdown(socket.SHUT_WR)
        assert await port.said() == Fin()
        port.incoming.put_nowait(encode_frame(Credit(5)))
        port.incoming.put_nowait(encode_frame(Fin()))
        port.incoming.put_nowait(None)
    assert run.result() == EndReport(TunnelEnd.FINISHED, "", EARLY_BYTES + 10_000, 0)
    far.close()


async def test_limits_are_kept_by_the_clock() -> None:
    """An idle connection ends by itself, and the other side learns why."""
    async with joined(limits=EndLimits(idle_s=0.2)) as both:
        await both.done.wait()
    assert {report.end for report in both.reports.values()} == {TunnelEnd.IDLE}


async def test_what_passes_can_be_observed() -> None:
    """Each direction in the order of its bytes, before they are passed on."""
    port = Queues()
    far, own = tcp_pair()
    seen: list[tuple[Flow, bytes]] = []
    port.incoming.put_nowait(encode_frame(Data(memoryview(b"up"))))
    async with asyncio.TaskGroup() as group:
        run = group.create_task(
            SocketEnd(
                own,
                port,
                side=Side.TENANT,
                budget=Budget(),
                peer_window=FIRST_WINDOW,
                observe=lambda flow, payload: seen.append((flow, bytes(payload))),
            ).run()
        )
        assert await asyncio.get_running_loop().sock_recv(far, 10) == b"up"
        await asyncio.get_running_loop().sock_sendall(far, b"down")
        assert await port.said() == Data(memoryview(b"down"))
        port.incoming.put_nowait(None)
    assert seen == [(Flow.UP, b"up"), (Flow.DOWN, b"down")]
    assert (run.result().bytes_up, run.result().bytes_down) == (2, 4)
    far.close()


async def test_an_end_that_is_cancelled_leaves_nothing_open() -> None:
    """The socket is reset and the window given back, whatever it was doing."""
    budget = Budget()
    far, own = tcp_pair()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(
            SocketEnd(own, Queues(), side=Side.TENANT, budget=budget, peer_window=FIRST_WINDOW).run()
        )
        await asyncio.sleep(0)
        run.cancel()
    assert own.fileno() == -1 and budget.left == budget.total
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(far, 1)
    far.close()


async def test_a_conversation_makes_the_frames_of_a_transfer_beside_it_small() -> None:
    """Whatever the socket has: what is said next would wait behind it."""
    sockets, ports = [tcp_pair(), tcp_pair()], [Queues(), Queues()]
    ends = [
        SocketEnd(own, port, side=Side.TENANT, budget=Budget(), peer_window=LARGEST_WINDOW)
        for (own, _), port in zip(sockets, ports, strict=True)
    ]
    talking, transferring = (far for _, far in sockets)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(end.run()) for end in ends]
        for _ in range(CONVERSATION):
            await loop.sock_sendall(talking, b"key")
            assert await ports[0].said() == Data(memoryview(b"key"))
        sending = group.create_task(loop.sock_sendall(transferring, bytes(MAX_DATA)))
        sizes: list[int] = []
        while sum(sizes) < MAX_DATA:
            frame = await ports[1].said()
            assert isinstance(frame, Data)
            sizes.append(len(frame.payload))
        await sending
        assert max(sizes) <= BESIDE_TALK
        for task in tasks:
            task.cancel()
    for _, far in sockets:
        far.close()
