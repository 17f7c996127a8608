"""What a connection lets its peer send: windows, and what was received and not yet taken."""

from tenantry.master.http2 import frames
from tenantry.master.http2.limits import Limits
from tenantry.master.http2.streams import MESSAGE_COST, Stream


class Intake:
    """The windows of a connection and its streams that we give.

    A stream's window grows again as bytes come, unless too many of its messages wait for somebody who takes them. The connection's
    window and all that it holds, begun messages too, are together never more than `Limits.held`.
    """

    __slots__ = ("_held", "_limits", "_out", "_owed", "_window")

    def __init__(self, limits: Limits, out: bytearray) -> None:
        self._limits = limits
        self._out = out
        self._window = limits.held
        self._owed = 0
        """Bytes that came and for which the peer has not been allowed others yet."""
        self._held = 0

    @property
    def held(self) -> int:
        """What was received and not yet taken, in bytes."""
        return self._held

    def arrive(self, size: int) -> bool:
        """So many bytes of data have come; False when they are more than was allowed."""
        self._window -= size
        self._owed += size
        return self._window >= 0

    def queue(self, stream: Stream, size: int) -> None:
        """A message waits to be taken."""
        stream.unread += size + MESSAGE_COST
        self._held += size + MESSAGE_COST

    def begin(self, more: int) -> None:
        """So many bytes more (or fewer) of messages that are not complete are held."""
        self._held += more

    def take(self, number: int, stream: Stream, size: int) -> None:
        """A message has been taken."""
        stream.unread -= size + MESSAGE_COST
        self._held -= size + MESSAGE_COST
        self.allow(number, stream)

    def forget(self, stream: Stream) -> None:
        """A stream is over, and what it held is gone."""
        self._held -= stream.unread + len(stream.partial or b"")
        self.allow_connection()

    def allow(self, number: int, stream: Stream) -> None:
        """Let the peer send more on a stream and on the connection, where it is time to."""
        window = self._limits.stream_window
        if stream.owed * 2 >= window and stream.unread < window and not stream.heard_out:
            self._out += frames.window_update(number, stream.owed)
            stream.window += stream.owed
            stream.owed = 0
        self.allow_connection()

    def allow_connection(self) -> None:
        """The same for the connection alone."""
        if self._owed * 2 < self._limits.held:
            return
        more = min(self._owed, self._limits.held - self._window - self._held)
        if more * 4 >= self._limits.held:
            self._out += frames.window_update(0, more)
            self._window += more
            self._owed -= more
