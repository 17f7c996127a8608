"""The stream of a connection over real gRPC: what a server ends a call with is what the caller is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantry.protocol.failures import TargetRefused
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import MAX_DATA, Joined, encode_frame
from tenantry.protocol.tunnels.watch import Side
from tenantry.transport.settings import tunnel_client_options, tunnel_server_options
from tenantry.transport.statuses import failure_of, failure_to_status
from tenantry.transport.tunnel_ends import SocketEnd
from tenantry.transport.tunnel_streams import TunnelStream
from tests.transport.test_tunnel_ends import tcp_pair

Serve = Callable[[Any], Awaitable[None]]
PATIENCE_S = 20.0


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that serves both calls so."""
    server = grpc.aio.server(options=tunnel_server_options(file_descriptors=1_024, max_streams_per_connection=100))

    async def handle(_requests: object, context: Any) -> None:
        await serve(context)

    handler: Any = grpc.stream_stream_rpc_method_handler(handle)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tenantry.v1.TunnelRelayService", {"Dial": handler, "Answer": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=tunnel_client_options()) as channel,
        ):
            yield channel
    finally:
        await server.stop(None)


async def begun(channel: grpc.aio.Channel) -> TunnelStream:
    """An operator's stream that has said something."""
    stream = TunnelStream(channel, "Dial")
    await stream.write(b"begin")
    return stream


@pytest.mark.parametrize("method", ["Dial", "Answer"])
async def test_messages_pass_as_they_are(method: str) -> None:
    """In both directions, in their order, up to the end; a stream that ended in order has no error."""

    async def echo(context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)
            if message == b"last":
                return

    messages = [b"begin", bytes(MAX_DATA + 100), b"", b"last"]
    async with served(echo) as channel:
        stream = TunnelStream(channel, method)
        for message in messages:
            await stream.write(message)
        assert [await stream.read() for _ in messages] == messages
        assert await stream.read() is None and await stream.read() is None
        assert stream.error is None and not stream.cut
        await stream.write(b"behind the end")


async def test_what_a_call_fails_with_is_kept_whoever_notices_first() -> None:
    """The Master's own status, also where writing meets the end before reading does."""

    async def refuse(context: Any) -> None:
        status = failure_to_status(TargetRefused(target="db:5432"))
        await context.abort(status.code, status.details, status.trailing_metadata)

    async with served(refuse) as channel:
        stream = await begun(channel)
        for _ in range(200):  # beyond what the stream takes before it knows its end
            await stream.write(bytes(100_000))
        assert await stream.read() is None
        assert stream.error is not None
        failure = failure_of(stream.error)
    assert isinstance(failure, TargetRefused) and failure.metadata == {"target": "db:5432"}


async def test_a_stream_that_is_given_up_reads_as_its_end() -> None:
    """Whoever still reads or writes is not cancelled with it; a task that is cancelled itself is."""
    over = asyncio.Event()

    async def stay(context: Any) -> None:
        await context.read()
        await context.write(b"joined")
        await over.wait()

    async with served(stay) as channel:
        stream = await begun(channel)
        assert await stream.read() == b"joined"
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(stream.read())
            await asyncio.sleep(0)
            stream.cancel()
        assert reading.result() is None and stream.cut
        await stream.write(b"behind the end")
        other = await begun(channel)
        assert await other.read() == b"joined"
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(other.read())
            await asyncio.sleep(0)
            waiting.cancel()
        assert waiting.cancelled()
        over.set()


async def test_an_end_over_a_stream_that_breaks_is_reset() -> None:
    """Without an exception from gRPC: a report, and a reset for whoever was connected."""

    async def serve(context: Any) -> None:
        await context.read()
        await context.write(encode_frame(Joined(FIRST_WINDOW)))
        await context.read()
        await context.abort(grpc.StatusCode.ABORTED, "no more")

    async with served(serve) as channel:
        far, own = tcp_pair()
        async with asyncio.TaskGroup() as group:
            run = group.create_task(SocketEnd(own, await begun(channel), side=Side.OPERATOR, budget=Budget()).run())
            await asyncio.get_running_loop().sock_sendall(far, b"x")
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(far, 1)
        assert run.result().end is TunnelEnd.RESET
        far.close()
