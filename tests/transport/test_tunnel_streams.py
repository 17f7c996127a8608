"""The stream of a connection over real gRPC: what a server ends a call with is what the caller is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantry.protocol.failures import TargetRefused, TunnelClosed, TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import Fin, Frame, Joined, Reset, encode_frame
from tenantry.protocol.tunnels.targets import Target
from tenantry.protocol.tunnels.watch import Side
from tenantry.transport.settings import tunnel_client_options, tunnel_server_options
from tenantry.transport.statuses import failure_to_status
from tenantry.transport.tunnel_ends import SocketEnd
from tenantry.transport.tunnel_streams import TunnelStream, answer, dial
from tenantry.v1.tunnel_relay_service_pb2 import AnswerRequest, DialRequest
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


def saying(*frames: Frame) -> Serve:
    """A server that says this and ends the call."""

    async def serve(context: Any) -> None:
        await context.read()
        for frame in frames:
            await context.write(encode_frame(frame))

    return serve


async def dialled(channel: grpc.aio.Channel) -> TunnelStream:
    """An operator's stream."""
    return await dial(channel, "tunnel", "key", Target("db", 5432))


async def test_begins_are_messages_of_the_contract() -> None:
    """What the server gets first names the tunnel or the ticket, and the window."""
    begins: list[bytes] = []

    async def serve(context: Any) -> None:
        begins.append(await context.read())
        await context.write(encode_frame(Joined(FIRST_WINDOW)))

    async with served(serve) as channel:
        assert await (await dialled(channel)).joined() == FIRST_WINDOW
        assert await (await answer(channel, bytes(16))).joined() == FIRST_WINDOW
    operator, tenant = DialRequest.FromString(begins[0]).begin, AnswerRequest.FromString(begins[1]).begin
    assert (operator.tunnel_id, operator.key, operator.target.host, operator.target.port) == (
        "tunnel",
        "key",
        "db",
        5432,
    )
    assert (tenant.nonce, tenant.window, operator.window) == (bytes(16), FIRST_WINDOW, FIRST_WINDOW)


async def test_a_call_that_fails_is_told_as_its_failure() -> None:
    """With the reason of the Master's, and as a lost connection where it is nobody's reason."""

    async def refuse(context: Any) -> None:
        status = failure_to_status(TargetRefused(target="db:5432"))
        await context.abort(status.code, status.details, status.trailing_metadata)

    async def break_off(context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with served(refuse) as channel:
        with pytest.raises(TargetRefused, match="db:5432"):
            await (await dialled(channel)).joined()
    async with served(break_off) as channel:
        with pytest.raises(ConnectionError, match="gone"):
            await (await dialled(channel)).joined()
    async with served(saying()) as channel:
        with pytest.raises(TunnelProtocolViolated):
            await (await dialled(channel)).joined()


@pytest.mark.parametrize(
    ("frame", "failure"), [(Reset(TunnelEnd.LONGEST, "time is up"), TunnelClosed), (Fin(), TunnelProtocolViolated)]
)
async def test_another_frame_than_joined_is_told_as_a_failure(frame: Frame, failure: type[Exception]) -> None:
    """A reset with its reason; anything else breaks the rules."""
    async with served(saying(frame)) as channel:
        with pytest.raises(failure):
            await (await dialled(channel)).joined()


async def test_a_stream_that_is_over_reads_as_its_end_and_takes_no_more() -> None:
    """Ended by the server, or given up by us: neither raises in the one that still uses it."""
    async with served(saying(Joined(FIRST_WINDOW))) as channel:
        stream = await dialled(channel)
        assert await stream.joined() == FIRST_WINDOW
        assert await stream.read() is None and await stream.read() is None
        await stream.write(encode_frame(Fin()))
        assert await stream.failure() is None
    waiting = asyncio.Event()

    async def stay(context: Any) -> None:
        await context.write(encode_frame(Joined(FIRST_WINDOW)))
        await waiting.wait()

    async with served(stay) as channel:
        stream = await dialled(channel)
        await stream.joined()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(stream.read())
            await asyncio.sleep(0)
            stream.cancel()
        assert reading.result() is None
        await stream.write(encode_frame(Fin()))
        assert isinstance(await stream.failure(), ConnectionError)
        waiting.set()


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
            run = group.create_task(SocketEnd(own, await dialled(channel), side=Side.OPERATOR, budget=Budget()).run())
            await asyncio.get_running_loop().sock_sendall(far, b"x")
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(far, 1)
        assert run.result().end is TunnelEnd.RESET
        far.close()
