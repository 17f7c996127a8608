"""Streams of connections, of which one is begun ahead where another connection is likely to come: it need not wait for that then."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc.aio

from tenantry.transport.tunnel_streams import TunnelStream

AHEAD_S: Final = 5.0
"""So long a stream is kept that nobody needs; the Master would end it after ten seconds of silence."""


class DialStreams:
    """The streams of one tunnel. To be used in a running loop."""

    def __init__(self, channel: grpc.aio.Channel, *, ahead: bool) -> None:
        """``ahead``: whether `prepare` does anything."""
        self._channel = channel
        self._ahead = ahead
        self._ready: TunnelStream | None = None
        self._patience: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        """Begin the stream of the next connection. Nothing is said on it before there is one."""
        if self._ahead and self._ready is None:
            self._ready = self._begin()
            self._patience = asyncio.get_running_loop().call_later(AHEAD_S, self._give_up)

    def take(self) -> TunnelStream:
        """A stream for a connection."""
        ready, self._ready = self._ready, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        return ready if ready is not None and not ready.is_over else self._begin()

    def _begin(self) -> TunnelStream:
        return TunnelStream(self._channel, "Dial")

    def _give_up(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.cancel()
