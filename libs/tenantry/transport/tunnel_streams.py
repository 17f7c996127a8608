"""The stream of a connection through a tunnel, as a client of `TunnelRelayService` sees it: messages are bytes in and bytes out."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from tenantry.transport.calls import cancelled_by_peer

_SERVICE: Final = "/tenantry.v1.TunnelRelayService"


class TunnelStream:
    """One call of `Dial` or `Answer`, as a `tenantry.transport.tunnel_ends.StreamPort`."""

    def __init__(self, channel: grpc.aio.Channel, method: str) -> None:
        """Begins the call; ``method`` is ``Dial`` or ``Answer``. Takes a running loop."""
        # Frames are made and read elsewhere, for speed: what passes here is bytes.
        self._call: Any = channel.stream_stream(f"{_SERVICE}/{method}")()
        self._begun = False
        self.error: grpc.aio.AioRpcError | None = None
        """What it failed with, once it has."""
        self.cut = False
        """Whether it was cancelled, or its channel closed."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended already."""
        return bool(self._call.done())

    async def read(self) -> bytes | None:
        """The next message; None at the end of the stream, whatever ended it."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            self.error = error
            return None
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
            self.cut = True
            return None
        return message if isinstance(message, bytes) else None  # else it is EOF

    async def write(self, message: bytes) -> None:
        """Send a message, when the stream has room for it. Does nothing once the stream is over: reading says so."""
        try:
            if not self._begun:
                self._begun = True
                await self._call.write(message)  # waits until the call has begun
                return
            # Not `write` of the call: when it meets the end of the stream, it puts a status of its own in the place of the peer's,
            # which says why the connection ended.
            await self._call._cython_call.send_serialized_message(message)  # noqa: SLF001
        except (cygrpc.InternalError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise

    def cancel(self) -> None:
        """Give the stream up: where it is not over, the Master sees a reset."""
        self._call.cancel()
