"""The server's end of one HTTP/2 connection that carries gRPC (RFC 9113), without I/O: bytes and the time in, events and bytes out.

What a peer can make us hold or do is bounded here (`Limits`): calls, header fields, messages, bytes that nobody has taken, and frames
that lead to nothing. Whoever breaks a rule of a stream has it reset, whoever breaks one of the connection is told GOAWAY and is over.
"""

from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple, TypeAlias

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2 import frames
from tenantry.master.http2.fields import (
    DONE,
    FieldReader,
    FieldsMalformed,
    FieldsTooLarge,
    FieldsUnreadable,
    Head,
    plain_answer,
    read_head,
    trailers,
)
from tenantry.master.http2.frames import HEAD, HEAD_BYTES, ErrorCode
from tenantry.master.http2.intake import Intake
from tenantry.master.http2.limits import FRAMES_BACK, Allowance, Limits
from tenantry.master.http2.sending import Sender, WindowTooLarge
from tenantry.master.http2.streams import MESSAGE, MESSAGE_HEAD, MessageCompressed, MessageTooLarge, Stream

_GRPC: Final = b"application/grpc"
_UNSUPPORTED_MEDIA_TYPE: Final = 415
_METHOD_NOT_ALLOWED: Final = 405
_RESOURCE_EXHAUSTED: Final = 8
_UNIMPLEMENTED: Final = 12
_UNCOMPRESSED: Final = "messages are not compressed here"


class CallOpened(NamedTuple):
    """A peer has begun a call."""

    stream: int
    head: Head


class MessageReceived(NamedTuple):
    """A message of a call is complete."""

    stream: int
    message: bytes


class InputEnded(NamedTuple):
    """The peer sends nothing more in this call."""

    stream: int


class CallCancelled(NamedTuple):
    """The call is over: its peer has reset it, or it broke a rule. Nothing can be sent in it."""

    stream: int


class Drained(NamedTuple):
    """All that was to be sent in this call has been allowed by the peer."""

    stream: int


class ConnectionOver(NamedTuple):
    """Nothing more is read: what `take` gives is to be sent, then the connection is to be closed."""

    end: ConnectionEnd
    cause: str


Event: TypeAlias = CallOpened | MessageReceived | InputEnded | CallCancelled | Drained | ConnectionOver


class _Wrong(Exception):
    """The peer breaks a rule of the connection."""

    def __init__(self, code: ErrorCode, cause: str) -> None:
        super().__init__(cause)
        self.code = code


class _Block:
    """A header block that may go on in further frames."""

    __slots__ = ("data", "ends", "frames", "stream")

    def __init__(self, stream: int, data: bytes, *, ends: bool) -> None:
        self.stream = stream
        self.data = bytearray(data)
        self.ends = ends
        self.frames = 0


class _Frame(NamedTuple):
    """A frame that is no data."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """One connection. Times are seconds of any steady clock."""

    __slots__ = (
        "_block",
        "_calls",
        "_events",
        "_fields",
        "_frames",
        "_going",
        "_greeted",
        "_intake",
        "_last",
        "_limits",
        "_now",
        "_over",
        "_pinged_at",
        "_sender",
        "_streams",
        "_strikes",
        "_tail",
        "_waiting",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._now = now
        self._events: list[Event] = []
        self._streams: dict[int, Stream] = {}
        self._last = 0
        """The newest stream that the peer has begun."""
        self._waiting = 0
        """Streams on which something waits for the peer's windows."""
        self._greeted = 0
        """0: the preface is awaited, 1: the settings are, 2: both have come."""
        self._tail: bytearray | None = None
        self._block: _Block | None = None
        self._over = self._going = False
        self._fields = FieldReader(limits.fields)
        self._frames = Allowance(limits.frames_burst, limits.frames_rate, now)
        self._calls = Allowance(limits.calls_burst, limits.calls_rate, now)
        self._pinged_at = now - 2 * limits.ping_gap
        self._strikes = 0
        self._sender = Sender()
        self._intake = Intake(limits, self._sender.out)
        self._sender.out += frames.settings(
            {
                # Nothing is remembered of the fields of peers that can do without.
                frames.HEADER_TABLE_SIZE: 0,
                frames.MAX_CONCURRENT_STREAMS: limits.streams,
                frames.INITIAL_WINDOW_SIZE: limits.stream_window,
                frames.MAX_HEADER_LIST_SIZE: limits.fields,
            }
        )
        self._sender.out += frames.window_update(0, limits.held - frames.DEFAULT_WINDOW)

    # --- for its owner ----------------------------------------------------------------------------------------------------

    @property
    def greeted(self) -> bool:
        """Whether the peer has sent what every connection begins with."""
        return self._greeted == 2

    @property
    def going(self) -> bool:
        """Whether the peer has been told to begin no call any more."""
        return self._going

    @property
    def held(self) -> int:
        """Bytes of messages that nobody has taken, and of those that are not complete."""
        return self._intake.held

    @property
    def stuck(self) -> bool:
        """Whether something waits for the peer's windows."""
        return self._waiting > 0

    @property
    def moved(self) -> int:
        """Bytes that had waited for the peer's windows and were sent: it grows while the peer takes something."""
        return self._sender.moved

    @property
    def outgoing(self) -> int:
        """Bytes that `take` would give."""
        return len(self._sender.out)

    def take(self) -> bytes:
        """What is to be sent now."""
        data = bytes(self._sender.out)
        self._sender.out.clear()
        return data

    def receive(self, data: memoryview, now: float) -> list[Event]:
        """Take what has come; ``data`` is not kept."""
        if self._over:
            return []
        self._now = now
        try:
            self._read(data)
        except _Wrong as wrong:
            self._fail(wrong)
        events, self._events = self._events, []
        return events

    def taken(self, number: int, size: int) -> None:
        """A message of so many bytes has been taken: the peer may send as much again."""
        stream = self._streams.get(number)
        if stream is not None:
            self._intake.take(number, stream, size)

    def send(self, number: int, message: bytes) -> bool:
        """Send a message; False while a part of it waits for the peer's windows (`Drained` comes when none does)."""
        stream = self._streams.get(number)
        if stream is None or stream.trailers is not None:
            return True
        self._strikes = 0
        waited = stream.pending is not None
        sent = self._sender.send(number, stream, message)
        if sent:
            self._frames.give(FRAMES_BACK)
        elif not waited:
            self._waiting += 1
        return sent

    def end(self, number: int, block: bytes = DONE) -> None:
        """End a call with these trailers, behind what waits to be sent."""
        stream = self._streams.get(number)
        if stream is None or stream.trailers is not None:
            return
        stream.trailers = block
        if stream.pending is None:
            self._finish(number, stream, block)

    def reset(self, number: int, code: ErrorCode) -> None:
        """End a call at once."""
        stream = self._streams.get(number)
        if stream is not None:
            self._sender.out += frames.reset(number, code)
            self._forget(number, stream)

    def ping(self) -> None:
        """Ask whether the peer is there; whatever comes from it is an answer."""
        self._sender.out += frames.frame(frames.PING, 0, 0, b"tenantry")

    def go_away(self) -> None:
        """Let the peer begin no call any more; those that are open go on."""
        if not self._going:
            self._going = True
            self._sender.out += frames.go_away(self._last, ErrorCode.NO_ERROR)

    # --- frames -----------------------------------------------------------------------------------------------------------

    def _read(self, data: memoryview) -> None:
        view, tail = data, self._tail
        if tail is not None:
            self._tail = None
            tail += data
            view = memoryview(tail)
        at, size, unpack = 0, len(view), HEAD.unpack_from
        if not self._greeted:
            at = self._take_preface(view)
        while self._greeted and size - at >= HEAD_BYTES:
            high, low, kind, flags, number = unpack(view, at)
            length = high << 8 | low
            if length > frames.MAX_FRAME:
                raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a frame of more than 16 KiB")
            start = at + HEAD_BYTES
            if start + length > size:
                break
            at = start + length
            number &= frames.STREAM_BITS
            if kind == frames.DATA and self._block is None and self._greeted == 2:
                self._take_data(view, start, at, flags, number)
            else:
                self._take_other(_Frame(kind, flags, number, bytes(view[start:at])))
        if at < size:
            self._tail = bytearray(view[at:])

    def _take_preface(self, view: memoryview) -> int:
        """Where the frames begin; 0 while the preface is not complete."""
        size = min(len(view), len(frames.PREFACE))
        if view[:size] != frames.PREFACE[:size]:
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "no preface of HTTP/2")
        if size < len(frames.PREFACE):
            return 0
        self._greeted = 1
        return size

    def _take_other(self, frame: _Frame) -> None:
        if self._greeted == 1 and (frame.kind != frames.SETTINGS or frame.flags & frames.ACK):
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "the first frame has no settings")
        if self._block is not None and (frame.kind != frames.CONTINUATION or frame.stream != self._block.stream):
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        if frame.kind not in (frames.HEADERS, frames.CONTINUATION):  # these are bounded as calls and as blocks
            self._spend()
        take = self._TAKE.get(frame.kind)
        if take is not None:  # others are of extensions that we have not offered, and mean nothing (section 5.5)
            take(self, frame)

    def _spend(self) -> None:
        if not self._frames.take(self._now):
            raise _Wrong(ErrorCode.ENHANCE_YOUR_CALM, "frames without a use")

    # --- data -------------------------------------------------------------------------------------------------------------

    def _take_data(self, view: memoryview, start: int, end: int, flags: int, number: int) -> None:
        size = end - start
        if not self._intake.arrive(size):
            raise _Wrong(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        stream = self._streams.get(number)
        if stream is None or stream.heard_out:
            self._take_late(number, stream)
            return
        stream.window -= size
        if stream.window < 0:
            self._drop(number, ErrorCode.FLOW_CONTROL_ERROR)
            return
        stream.owed += size
        if flags & frames.PADDED:
            start, end = _unpad(view, start, end)
        if start < end:
            if not self._take_messages(number, stream, view, start, end):
                return
        elif not flags & frames.END_STREAM:
            self._spend()
        if flags & frames.END_STREAM:
            self._hear_out(number, stream)
        else:
            self._intake.allow(number, stream)

    def _take_messages(self, number: int, stream: Stream, view: memoryview, start: int, end: int) -> bool:
        """Find the messages in data; False when that has ended the stream."""
        if stream.trailers is not None:
            return True  # its handler has ended: what still comes is for nobody
        if stream.partial is None and end - start >= MESSAGE_HEAD:  # nearly every frame is one message
            compressed, length = MESSAGE.unpack_from(view, start)
            if length == end - start - MESSAGE_HEAD and not compressed and length <= self._limits.message:
                self._intake.queue(stream, length)
                self._events.append(MessageReceived(number, bytes(view[start + MESSAGE_HEAD : end])))
                return True
        before = len(stream.partial or b"")
        try:
            messages = stream.feed(view[start:end], self._limits.message)
        except MessageTooLarge:
            self._refuse(number, _RESOURCE_EXHAUSTED, f"a message has at most {self._limits.message} bytes")
            return False
        except MessageCompressed:
            self._refuse(number, _UNIMPLEMENTED, _UNCOMPRESSED)
            return False
        finally:
            self._intake.begin(len(stream.partial or b"") - before)
        for message in messages:
            self._intake.queue(stream, len(message))
            self._events.append(MessageReceived(number, message))
        return True

    def _take_late(self, number: int, stream: Stream | None) -> None:
        """Data for a stream that is over: it may have been on its way."""
        if stream is not None:
            self._drop(number, ErrorCode.STREAM_CLOSED)
        elif number > self._last or not number & 1:
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "data for a stream that nobody has begun")
        self._spend()
        self._intake.allow_connection()

    # --- header blocks ----------------------------------------------------------------------------------------------------

    def _take_headers(self, frame: _Frame) -> None:
        if not frame.stream & 1:
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a header block on a stream that no client can begin")
        start, end = 0, len(frame.payload)
        if frame.flags & frames.PADDED:
            start, end = _unpad(memoryview(frame.payload), start, end)
        if frame.flags & frames.PRIORITISED:
            start += 5
            if start > end:
                raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a priority without room")
        self._block = _Block(frame.stream, frame.payload[start:end], ends=bool(frame.flags & frames.END_STREAM))
        if frame.flags & frames.END_HEADERS:
            self._take_block(self._block)

    def _take_continuation(self, frame: _Frame) -> None:
        block = self._block
        if block is None:
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        block.frames += 1
        block.data += frame.payload
        if block.frames > self._limits.continuations or len(block.data) > self._limits.block:
            raise _Wrong(ErrorCode.ENHANCE_YOUR_CALM, "a header block without an end")
        if frame.flags & frames.END_HEADERS:
            self._take_block(block)

    def _take_block(self, block: _Block) -> None:
        self._block = None
        try:
            fields = self._fields.read(bytes(block.data))
        except FieldsTooLarge as error:
            raise _Wrong(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from None
        except FieldsUnreadable as error:
            raise _Wrong(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        if block.stream <= self._last:
            self._take_trailers(block)
            return
        self._last = block.stream
        if not self._calls.take(self._now):
            raise _Wrong(ErrorCode.ENHANCE_YOUR_CALM, "calls begun too often")
        if self._going:
            return  # behind what GOAWAY named: the peer begins it again elsewhere
        if len(self._streams) >= self._limits.streams:
            self._sender.out += frames.reset(block.stream, ErrorCode.REFUSED_STREAM)
            return
        try:
            head = read_head(fields)
        except FieldsMalformed:
            self._sender.out += frames.reset(block.stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._begin(block.stream, head, ends=block.ends)

    def _begin(self, number: int, head: Head, *, ends: bool) -> None:
        stream = self._streams[number] = Stream(self._limits.stream_window, self._sender.initial_window)
        stream.heard_out = ends
        if head.method != b"POST" or not head.content_type.startswith(_GRPC):
            status = _METHOD_NOT_ALLOWED if head.method != b"POST" else _UNSUPPORTED_MEDIA_TYPE
            self._sender.end_with(number, stream, plain_answer(status))
            self._forget(number, stream)
        else:
            self._events.append(CallOpened(number, head))
            if ends:
                self._events.append(InputEnded(number))

    def _take_trailers(self, block: _Block) -> None:
        """A second header block of a stream ends its input; gRPC's clients send none."""
        self._spend()
        stream = self._streams.get(block.stream)
        if stream is None:
            return
        if stream.heard_out or not block.ends:
            self._drop(block.stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._hear_out(block.stream, stream)

    # --- control ----------------------------------------------------------------------------------------------------------

    def _take_window(self, frame: _Frame) -> None:
        if len(frame.payload) != frames.NUMBER.size:
            raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a malformed WINDOW_UPDATE")
        more = frames.NUMBER.unpack(frame.payload)[0] & frames.STREAM_BITS
        if frame.stream:
            self._widen_stream(frame.stream, more)
            return
        if not more:
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a window of nothing")
        try:
            self._sender.widen(more)
        except WindowTooLarge:
            raise _Wrong(ErrorCode.FLOW_CONTROL_ERROR, "a window without bounds") from None
        self._send_all_pending()

    def _widen_stream(self, number: int, more: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last or not number & 1:
                raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a window for a stream that nobody has begun")
            return
        stream.send_window += more
        if not more or stream.send_window > frames.LARGEST_WINDOW:
            self._drop(number, ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR)
        elif stream.pending is not None:
            self._send_pending(number, stream)

    def _take_ping(self, frame: _Frame) -> None:
        if frame.stream or len(frame.payload) != 8:
            raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a malformed PING")
        if frame.flags & frames.ACK:
            return
        if self._now - self._pinged_at < self._limits.ping_gap:
            self._strikes += 1
            if self._strikes > self._limits.ping_strikes:
                raise _Wrong(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        self._pinged_at = self._now
        self._sender.out += frames.frame(frames.PING, frames.ACK, 0, frame.payload)

    def _take_settings(self, frame: _Frame) -> None:
        acknowledges = bool(frame.flags & frames.ACK)
        if frame.stream or len(frame.payload) % frames.SETTING.size or (acknowledges and frame.payload):
            raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "malformed SETTINGS")
        if acknowledges:
            return
        for name, value in frames.SETTING.iter_unpack(frame.payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                try:
                    self._sender.change_initial_window(value, self._streams)
                except WindowTooLarge:
                    raise _Wrong(ErrorCode.FLOW_CONTROL_ERROR, "a window without bounds") from None
            elif name == frames.MAX_FRAME_SIZE and not frames.MAX_FRAME <= value <= frames.MAX_FRAME_EVER:
                raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a frame size out of bounds")
            elif name == frames.ENABLE_PUSH and value > 1:
                raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a setting that is no truth value")
        self._greeted = 2
        self._sender.out += frames.frame(frames.SETTINGS, frames.ACK, 0)
        self._send_all_pending()

    def _take_reset(self, frame: _Frame) -> None:
        if len(frame.payload) != frames.NUMBER.size:
            raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a malformed RST_STREAM")
        if frame.stream > self._last or not frame.stream & 1:
            raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a reset of a stream that nobody has begun")
        stream = self._streams.get(frame.stream)
        if stream is not None:
            self._forget(frame.stream, stream)
            self._events.append(CallCancelled(frame.stream))

    def _take_priority(self, frame: _Frame) -> None:
        if not frame.stream or len(frame.payload) != 5:
            raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a malformed PRIORITY")

    def _take_going(self, frame: _Frame) -> None:
        if frame.stream or len(frame.payload) < frames.GOING.size:
            raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "a malformed GOAWAY")

    def _take_promise(self, _frame: _Frame) -> None:
        raise _Wrong(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def _take_early_data(self, _frame: _Frame) -> None:
        raise _Wrong(ErrorCode.PROTOCOL_ERROR, "data out of turn")

    _TAKE: ClassVar[dict[int, "Callable[[Connection, _Frame], None]"]] = {
        frames.DATA: _take_early_data,
        frames.HEADERS: _take_headers,
        frames.PRIORITY: _take_priority,
        frames.RST_STREAM: _take_reset,
        frames.SETTINGS: _take_settings,
        frames.PUSH_PROMISE: _take_promise,
        frames.PING: _take_ping,
        frames.GOAWAY: _take_going,
        frames.WINDOW_UPDATE: _take_window,
        frames.CONTINUATION: _take_continuation,
    }
    """What each kind of frame does; data that comes in its turn is taken before it is looked up here."""

    # --- what waits -------------------------------------------------------------------------------------------------------

    def _send_pending(self, number: int, stream: Stream) -> None:
        self._frames.give(FRAMES_BACK * self._sender.send_pending(number, stream))
        if stream.pending is None:
            self._waiting -= 1
            self._events.append(Drained(number))
            if stream.trailers is not None:
                self._finish(number, stream, stream.trailers)

    def _send_all_pending(self) -> None:
        if self._waiting:
            for number, stream in list(self._streams.items()):
                if stream.pending is not None:
                    self._send_pending(number, stream)

    # --- ends -------------------------------------------------------------------------------------------------------------

    def _finish(self, number: int, stream: Stream, block: bytes) -> None:
        self._sender.end(number, stream, block)
        self._forget(number, stream)

    def _hear_out(self, number: int, stream: Stream) -> None:
        stream.heard_out = True
        if stream.partial is not None:
            self._drop(number, ErrorCode.PROTOCOL_ERROR)
        else:
            self._events.append(InputEnded(number))

    def _refuse(self, number: int, code: int, text: str) -> None:
        """End a call with a status before its handler does."""
        stream = self._streams[number]
        if stream.pending is not None:
            self._drop(number, ErrorCode.CANCEL)  # in the middle of a message no status can be said
            return
        self._finish(number, stream, trailers(code, text))
        self._events.append(CallCancelled(number))

    def _drop(self, number: int, code: ErrorCode) -> None:
        self.reset(number, code)
        self._events.append(CallCancelled(number))

    def _forget(self, number: int, stream: Stream) -> None:
        del self._streams[number]
        self._waiting -= stream.pending is not None
        self._intake.forget(stream)

    def _fail(self, wrong: _Wrong) -> None:
        self._over = self._going = True
        self._sender.out += frames.go_away(self._last, wrong.code, str(wrong))
        self._events.extend(CallCancelled(number) for number in self._streams)
        self._streams.clear()
        self._waiting = 0
        self._tail = self._block = None
        calm = wrong.code is ErrorCode.ENHANCE_YOUR_CALM
        self._events.append(ConnectionOver(ConnectionEnd.FLOOD if calm else ConnectionEnd.PROTOCOL, str(wrong)))


def _unpad(view: memoryview, start: int, end: int) -> tuple[int, int]:
    if start == end:
        raise _Wrong(ErrorCode.FRAME_SIZE_ERROR, "padding without a length")
    padding = view[start]
    if start + 1 + padding > end:
        raise _Wrong(ErrorCode.PROTOCOL_ERROR, "more padding than there is")
    return start + 1, end - padding
