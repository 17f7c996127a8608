"""The stream of a connection through a tunnel, as a client of `TunnelRelayService` sees it: messages are bytes in and bytes out."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc.aio

from tenantry.protocol.failures import Failure, TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW
from tenantry.protocol.tunnels.frames import Joined, Reset, decode_frame
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.protocol.tunnels.targets import Target
from tenantry.transport.statuses import failure_of
from tenantry.v1.tunnel_pb2 import TunnelTarget
from tenantry.v1.tunnel_relay_service_pb2 import AnswerBegin, AnswerRequest, DialBegin, DialRequest

DIAL: Final = "/tenantry.v1.TunnelRelayService/Dial"
ANSWER: Final = "/tenantry.v1.TunnelRelayService/Answer"


class TunnelStream:
    """One call of `Dial` or `Answer`; a `tenantry.transport.tunnel_ends.StreamPort`."""

    def __init__(self, channel: grpc.aio.Channel, method: str) -> None:
        self._call: grpc.aio.StreamStreamCall[Any, Any] = channel.stream_stream(method)()

    async def read(self) -> bytes | None:
        """The next message; None at the end of the stream, whatever ended it."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError:
            return None
        except asyncio.CancelledError:
            if self._is_ours():
                raise
            return None
        return message if isinstance(message, bytes) else None  # else it is grpc.aio.EOF

    async def write(self, message: bytes) -> None:
        """Send a message, when the stream has room for it. Does nothing once the stream is over."""
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # why, `read` and `failure` tell
        except asyncio.CancelledError:
            if self._is_ours():
                raise

    async def joined(self) -> int:
        """The window of the other end, once it is there. Raises what the call fails with: a Failure, or ConnectionError."""
        message = await self.read()
        if message is None:
            raise await self.failure() or TunnelProtocolViolated(problem="the stream ended before anything was said")
        match decode_frame(message):
            case Joined(window):
                return window
            case Reset(end, detail):
                raise failure_of_end(end, detail, "")
            case frame:
                raise TunnelProtocolViolated(problem=f"{type(frame).__name__.lower()} came before both ends were there")

    async def failure(self) -> Failure | ConnectionError | None:
        """What the call failed with, once `read` has said None; None where it ended in order. Waits for its end."""
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return None
        details = await self._call.details()
        trailing, initial = await self._call.trailing_metadata(), await self._call.initial_metadata()
        error = grpc.aio.AioRpcError(code, initial, trailing, details)
        return failure_of(error) or ConnectionError(f"{code.name}: {details}")

    def cancel(self) -> None:
        """Give the stream up: the Master sees a reset."""
        self._call.cancel()

    def _is_ours(self) -> bool:
        """Whether it is this task that is cancelled: a call that was cancelled raises the same."""
        task = asyncio.current_task()
        return not self._call.cancelled() or (task is not None and task.cancelling() > 0)


async def dial(
    channel: grpc.aio.Channel, tunnel_id: str, key: str, target: Target, window: int = FIRST_WINDOW
) -> TunnelStream:
    """Begin a connection through a tunnel, at the operator's end; `TunnelStream.joined` says when the target is connected."""
    stream = TunnelStream(channel, DIAL)
    begin = DialBegin(
        tunnel_id=tunnel_id, key=key, target=TunnelTarget(host=target.host, port=target.port), window=window
    )
    await stream.write(DialRequest(begin=begin).SerializeToString())
    return stream


async def answer(channel: grpc.aio.Channel, nonce: bytes, window: int = FIRST_WINDOW) -> TunnelStream:
    """Begin a connection at the Tenant's end, once the target is connected; ``nonce`` is the ticket's."""
    stream = TunnelStream(channel, ANSWER)
    await stream.write(AnswerRequest(begin=AnswerBegin(nonce=nonce, window=window)).SerializeToString())
    return stream
