"""One call as its handler sees it: as much of `grpc.aio.ServicerContext` as services of links use, and it raises what that raises."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from tenantry.master.http2.fields import DONE, Field, Head, trailers


class Wire(Protocol):
    """What a call needs of its connection."""

    peer: str
    """``ipv4:host:port`` or ``ipv6:[host]:port``."""

    def certificate(self) -> bytes | None:
        """The peer's certificate, PEM."""

    def send(self, stream: int, message: bytes) -> bool:
        """Send a message; False while a part of it waits, until the call is told that it is drained."""

    def taken(self, stream: int, size: int) -> None:
        """A message of this size has been taken."""

    def end(self, stream: int, block: bytes) -> None:
        """End the call with these trailers."""

    async def writable(self) -> None:
        """Return when the socket takes more."""

    def over(self, stream: int) -> None:
        """The handler of the call has ended."""


class Call:
    """A call that is served: messages come in, its handler takes them and answers."""

    __slots__ = (
        "_deserialize",
        "_gone",
        "_head",
        "_inbox",
        "_input_over",
        "_reader",
        "_serialize",
        "_stream",
        "_wire",
        "_writer",
        "reads",
        "task",
    )

    def __init__(self, wire: Wire, stream: int, head: Head) -> None:
        self._wire = wire
        self._stream = stream
        self._head = head
        self._inbox: deque[bytes] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._input_over = False
        self._gone = False
        self._deserialize: Callable[[bytes], Any] | None = None
        self._serialize: Callable[[Any], bytes] | None = None
        self.reads = False
        """Whether the handler reads a stream, whose end tells it that the peer has gone."""
        self.task: asyncio.Task[None] | None = None

    # --- for services -----------------------------------------------------------------------------------------------------

    async def read(self) -> Any:
        """The next message; grpc.aio.EOF when there is none."""
        while self._inbox is None:
            if self._input_over:
                return grpc.aio.EOF
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._inbox.popleft()
        if not self._inbox:
            self._inbox = None
        self._wire.taken(self._stream, len(message))
        return message if self._deserialize is None else self._deserialize(message)

    async def write(self, message: Any) -> None:
        """Send a message; returns when the peer's windows have allowed all of it. Raises grpc.aio.InternalError when it has gone."""
        data = message if self._serialize is None else self._serialize(message)
        await self._wire.writable()
        if self._gone:
            raise grpc.aio.InternalError("written to a peer that has gone")
        if not self._wire.send(self._stream, data):
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
            if self._gone:
                raise grpc.aio.InternalError("written to a peer that has gone")

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """End the call with a status. Always raises grpc.aio.AbortError."""
        self.finish(code, details, trailing_metadata)
        raise grpc.aio.AbortError(details)

    def invocation_metadata(self) -> tuple[Field, ...]:
        """The metadata that the call was begun with."""
        return self._head.metadata

    def peer(self) -> str:
        """From where the call comes."""
        return self._wire.peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """The peer's certificate under the name that gRPC has for it."""
        certificate = self._wire.certificate()
        return {} if certificate is None else {"x509_pem_cert": [certificate]}

    # --- for the connection -----------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """``/package.Service/Method``."""
        return self._head.path.decode("ascii", "replace")

    @property
    def timeout_s(self) -> float | None:
        """How long the peer waits for the end of the call."""
        return self._head.timeout_s

    def deliver(self, message: bytes) -> None:
        """A message has come."""
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(message)
        _wake(self._reader)

    def hear_out(self) -> None:
        """No more messages come."""
        self._input_over = True
        _wake(self._reader)

    def drain(self) -> None:
        """What was written is sent."""
        _wake(self._writer)

    def leave(self) -> None:
        """The peer has gone, or has cancelled the call. A handler that reads hears it as the end of its input."""
        self._gone = self._input_over = True
        _wake(self._reader)
        _wake(self._writer)
        if not self.reads and self.task is not None:
            self.task.cancel()

    def finish(
        self, code: grpc.StatusCode, details: str = "", metadata: Iterable[tuple[str, str | bytes]] = ()
    ) -> None:
        """End the call with a status, unless it has ended."""
        if not self._gone:
            self._wire.end(self._stream, trailers(code.value[0], details, metadata))

    def expire(self) -> None:
        """Its time is over: the peer is told, and the handler ends."""
        self.finish(grpc.StatusCode.DEADLINE_EXCEEDED, "the call's time is over")
        self.leave()

    def over(self) -> None:
        """The handler has ended."""
        self.task = None
        self._wire.over(self._stream)

    async def serve(self, handler: Any) -> None:
        """Let a handler of gRPC's kind answer the call."""
        self._deserialize, self._serialize = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:
            self.reads = True
            await self._answer(handler, self._messages())
            return
        request = await self.read()
        if request is grpc.aio.EOF or await self.read() is not grpc.aio.EOF:
            self.finish(grpc.StatusCode.UNIMPLEMENTED, "this call takes one message")
            return
        await self._answer(handler, request)

    async def _answer(self, handler: Any, request: Any) -> None:
        if handler.response_streaming:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
            answers = behaviour(request, self)
            if hasattr(answers, "__aiter__"):
                async with contextlib.aclosing(answers):
                    async for answer in answers:
                        await self.write(answer)
            else:
                await answers
        else:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            await self.write(await behaviour(request, self))
        if not self._gone:
            self._wire.end(self._stream, DONE)

    async def _messages(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
