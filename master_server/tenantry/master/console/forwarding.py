"""Calls of browsers, made again in their name as calls of gRPC on the Master's private socket."""

from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final, cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from grpc_status import rpc_status

from tenantry.master.console.connect import Call, Ending, code_of
from tenantry.master.rpc.callers import BROUGHT_FOR
from tenantry.transport.settings import client_options, without_pings

UNARY_S: Final = 75.0
"""How long a call may take that answers once, whatever its caller says: a sign-in waits up to a minute for its turn."""


class CallFailed(Exception):
    """A call ended with a failure."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


def methods_of(services: Iterable[str]) -> dict[str, bool]:
    """The paths of these services' methods, with whether each answers with a stream. Raises KeyError for an unknown service."""
    pool = descriptor_pool.Default()
    return {
        f"/{service.full_name}/{method.name}": method.server_streaming
        for service in (pool.FindServiceByName(name) for name in services)
        for method in service.methods
        if not method.client_streaming
    }


class Forwarder:
    """A channel to the services. Messages pass as bytes."""

    def __init__(self, target: str) -> None:
        """``target`` is a socket of this machine, in gRPC's notation."""
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        self._channel = grpc.aio.secure_channel(target, credentials, options=without_pings(client_options()))

    async def close(self) -> None:
        """End what is open."""
        await self._channel.close()

    async def call(self, call: Call, token: str | None, browser: str) -> bytes:
        """The answer of a call that has one. ``browser`` is where it comes from, as ``host:port``. Raises CallFailed."""
        timeout = min(UNARY_S, call.timeout_s or UNARY_S)
        send: Any = self._channel.unary_unary(call.method)
        try:
            answer = send(call.message, metadata=_metadata(token, browser), timeout=timeout, wait_for_ready=True)
            return cast("bytes", await answer)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(_ending(error)) from None

    async def stream(self, call: Call, token: str | None, browser: str) -> AsyncGenerator[bytes, None]:
        """The answers of a call that has many, as they come. Raises CallFailed."""
        send: Any = self._channel.unary_stream(call.method)
        answers = send(call.message, metadata=_metadata(token, browser), timeout=call.timeout_s, wait_for_ready=True)
        try:
            async for answer in answers:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise CallFailed(_ending(error)) from None
        finally:
            answers.cancel()


def _metadata(token: str | None, browser: str) -> tuple[tuple[str, str], ...]:
    """Nothing of what a browser sends goes on but its message, its session and how long it waits."""
    peer = (BROUGHT_FOR, browser)
    return (peer,) if token is None else (peer, ("authorization", f"Bearer {token}"))


def _ending(error: grpc.aio.AioRpcError) -> Ending:
    status = rpc_status.from_call(cast("grpc.Call", error))
    details = () if status is None else tuple((one.type_url.rpartition("/")[2], one.value) for one in status.details)
    return Ending(code_of(error.code().name), error.details() or "", details)
