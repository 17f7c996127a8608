"""What the settings of gRPC promise, on real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantry.transport.settings import (
    Options,
    client_options,
    server_options,
    tunnel_client_options,
    tunnel_server_options,
    with_lasting_calls,
)
from tests.servers.deadlines import eventually, within

AGE_MS = 300
"""A longest age, and a grace behind it, of which a test sees the end."""
SHORT = {"grpc.max_connection_age_ms": AGE_MS, "grpc.max_connection_age_grace_ms": AGE_MS}


class _Held(grpc.GenericRpcHandler):
    """Two methods: `Hold`, which answers once and stays open until it is let go, and `Whence`, which tells the caller's address."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        async def hold(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
            yield b"held"
            await self.let_go.wait()
            yield b"let go"

        async def whence(_request: bytes, context: Any) -> bytes:
            return str(context.peer()).encode()

        if str(details.method).endswith("Hold"):
            return grpc.unary_stream_rpc_method_handler(hold)
        return grpc.unary_unary_rpc_method_handler(whence)


@pytest.mark.parametrize("lasting", [True, False])
async def test_a_lasting_call_outlives_its_connections_age(lasting: bool) -> None:
    """A tunnel of eight hours is held by one call; the connection under it takes no new calls after an hour, and ends none."""
    options: Options = [
        (name, SHORT.get(name, value))
        for name, value in server_options(file_descriptors=1024, max_streams_per_connection=9)
    ]
    handler = _Held()
    server = grpc.aio.server(options=with_lasting_calls(options) if lasting else options)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=client_options()) as channel, within(30):
        held: Any = channel.unary_stream("/tests.Held/Hold")(b"")  # type: ignore[arg-type]
        assert await held.read() == b"held"
        if not lasting:
            with pytest.raises(grpc.aio.AioRpcError, match="max connection age"):
                await held.read()
            await server.stop(0)
            return
        whence: Any = channel.unary_unary("/tests.Held/Whence")
        connections: set[bytes] = set()

        async def third() -> bool:
            connections.add(await whence(b""))
            return len(connections) > 2

        # The second is over its age as well: the grace of the first one is long over.
        await eventually(third, "a third connection")
        handler.let_go.set()
        assert await held.read() == b"let go"
    await server.stop(0)


def test_no_setting_is_said_twice_and_a_tunnels_listener_has_fixed_windows() -> None:
    """gRPC takes one of two values without a word; a window that follows what a sender can send has no bound."""
    server = tunnel_server_options(file_descriptors=1024, max_streams_per_connection=9)
    plain = server_options(file_descriptors=1024, max_streams_per_connection=9)
    for options in (plain, client_options("a"), server, tunnel_client_options("a")):
        assert len({name for name, _ in options}) == len(options)
    for options in (plain, server):
        assert dict(options)["grpc.http2.bdp_probe"] == 0
        assert int(dict(options)["grpc.http2.lookahead_bytes"]) <= 256 * 1024
