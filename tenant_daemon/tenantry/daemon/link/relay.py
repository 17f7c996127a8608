"""Streams to the Master's listener `relay`: one a connection, all on one channel that is opened when it is needed first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import grpc.aio

from tenantry.daemon.link.channels import open_relay_channel
from tenantry.daemon.link.identity import Credential, IdentityFolder
from tenantry.protocol.failures import Failure, TunnelProtocolViolated
from tenantry.protocol.joining import join_address, split_address
from tenantry.protocol.tunnels.frames import Joined, decode_frame
from tenantry.transport.statuses import failure_of
from tenantry.transport.tunnel_streams import TunnelStream
from tenantry.v1.tunnel_relay_service_pb2 import AnswerBegin, AnswerRequest

JOIN_S: Final = 10.0
ROOTS_S: Final = 5.0
"""After so long the roots are read again: connections that follow each other need not wait for the disk."""
MOST_EARLY: Final = 4
"""Streams at a time that say nothing yet. The Master reads eight of these at once: there is room for one that speaks."""
EARLY_S: Final = 5.0
"""So long a stream may say nothing; the Master would end it after ten seconds."""
_Raise = Callable[[str], Exception]


class RelayStreams:
    """The channel and its streams. A renewed certificate, other roots or another address make a new channel; the old one goes on until
    its last stream is over.
    """

    def __init__(
        self,
        trust_domain: str,
        folder: IdentityFolder,
        linked: Callable[[], tuple[str, Credential] | None],
        lost: _Raise,
    ) -> None:
        """``linked``: the address and the certificate of the link that is, or was, open. ``lost`` makes the exception to raise."""
        self._trust_domain = trust_domain
        self._folder = folder
        self._linked = linked
        self._lost = lost
        self._roots = b""
        self._read_at = -ROOTS_S
        self._current: _Channel | None = None
        self._old: set[_Channel] = set()
        self._early: dict[bytes, _Early] = {}

    @contextlib.asynccontextmanager
    async def expecting(self, nonce: bytes) -> AsyncIterator[None]:
        """A connection may come of this nonce: begin its stream now, so that `stream` need not wait for that.

        Nothing is said on it, and where it is not used it is given up. Begins nothing while there is no channel, or too much is begun.
        """
        channel = self._current
        early: _Early | None = None
        if channel is not None and nonce not in self._early and len(self._early) < MOST_EARLY:
            channel.streams += 1
            stream = TunnelStream(channel.channel, "Answer")
            patience = asyncio.get_running_loop().call_later(EARLY_S, stream.cancel)
            early = self._early[nonce] = _Early(channel, stream, patience)
        try:
            yield
        finally:
            if early is not None and self._early.get(nonce) is early:
                await self._drop(self._early.pop(nonce))

    @contextlib.asynccontextmanager
    async def stream(self, port: int, nonce: bytes, window: int) -> AsyncIterator[tuple[TunnelStream, int]]:
        """A stream that the Master has joined, and the window of the other end. Raises what ``lost`` makes."""
        channel = await self._take(port)
        stream: TunnelStream | None = None
        try:
            stream = await self._begun(nonce, channel) or TunnelStream(channel.channel, "Answer")
            try:
                async with asyncio.timeout(JOIN_S):
                    other = await self._join(stream, nonce, window)
            except TimeoutError:
                raise self._lost("the Master's relay did not answer in time") from None
            yield stream, other
        finally:
            if stream is not None:
                stream.cancel()
            await self._give_back(channel)

    async def close(self) -> None:
        """Let go of the channel, where no stream is open on it."""
        current = self._current
        if current is not None and current.streams == 0:
            self._current = None
            await current.channel.close()

    async def _begun(self, nonce: bytes, channel: _Channel) -> TunnelStream | None:
        """The stream that was begun for this nonce, where it is still as good as a new one."""
        early = self._early.pop(nonce, None)
        if early is None:
            return None
        early.patience.cancel()
        if early.channel is channel and not early.stream.is_over:
            channel.streams -= 1  # counted twice
            return early.stream
        await self._drop(early)
        return None

    async def _drop(self, early: _Early) -> None:
        early.patience.cancel()
        early.stream.cancel()
        await self._give_back(early.channel)

    async def _join(self, stream: TunnelStream, nonce: bytes, window: int) -> int:
        await stream.write(AnswerRequest(begin=AnswerBegin(nonce=nonce, window=window)).SerializeToString())
        answer = await stream.read()
        try:
            joined = decode_frame(answer) if answer is not None else None
        except TunnelProtocolViolated as violation:
            raise self._lost(violation.describe()) from None
        if not isinstance(joined, Joined):
            raise self._lost(
                _words(stream.error) if stream.error is not None else "the Master's relay ended the stream"
            )
        return joined.window

    async def _take(self, port: int) -> _Channel:
        linked = self._linked()
        if linked is None:
            raise self._lost("there was no link yet")
        address, credential = linked
        if time.monotonic() - self._read_at >= ROOTS_S:
            try:
                self._roots = await asyncio.to_thread(self._folder.trust_bundle)
            except Failure as failure:
                raise self._lost(failure.describe()) from None
            self._read_at = time.monotonic()
        bundle = self._roots
        key = (join_address(split_address(address, port)[0], port), credential.serial, bundle)
        channel = self._current
        if channel is None or channel.key != key:
            if channel is not None:
                self._old.add(channel)
            channel = _Channel(key, open_relay_channel(key[0], self._trust_domain, bundle, credential))
            self._current = channel
        channel.streams += 1
        return channel

    async def _give_back(self, channel: _Channel) -> None:
        channel.streams -= 1
        for one in [old for old in self._old if old.streams == 0]:
            self._old.discard(one)
            await one.channel.close()


@dataclass(frozen=True, slots=True)
class _Early:
    """A stream that nothing was said on yet. ``patience`` gives it up."""

    channel: _Channel
    stream: TunnelStream
    patience: asyncio.TimerHandle


class _Channel:
    """A channel, what it was made from, and how many streams it has."""

    def __init__(self, key: tuple[str, str, bytes], channel: grpc.aio.Channel) -> None:
        self.key = key
        self.channel = channel
        self.streams = 0


def _words(error: grpc.aio.AioRpcError) -> str:
    known = failure_of(error)
    return (known.describe() if known is not None else f"{error.code().name}: {error.details()}")[:300]
