"""One end of a connection through a tunnel: between a socket and a stream of frames. No I/O, no clock.

The shell around it reads from the socket as much as `ConnectionEnd.sendable` says, tells with `sent` what it sends, gives every frame
that comes to `receive`, and tells with `delivered` what it has written to the socket. What is to be sent besides data comes out of
`next_frame`. ``now`` is seconds of a monotonic clock; `deadline` says when to call `tick` if nothing else happens.

Both directions have credits: an end sends at most as many bytes as the other has allowed. What it allows is its window: what may
still come, what waits for the socket and what was written but not yet allowed again are the window together, always. A window grows
while the socket takes everything at once, so that a far way is filled, and a socket that takes nothing holds little.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, LARGEST_WINDOW, Budget
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import MAX_DATA, Credit, Data, Fin, Frame, Joined, Reset

EARLY_BYTES: Final = 65_536
"""So much may be sent before the other end is there; no window is smaller."""
LARGEST_ALLOWED: Final = 16 << 20
"""More than this may never be on its way in one direction."""


def check_window(window: int) -> int:
    """What an end says at first that may be sent to it. Raises TunnelProtocolViolated."""
    if not EARLY_BYTES <= window <= LARGEST_ALLOWED:
        raise TunnelProtocolViolated(problem=f"a window of {window} bytes")
    return window


def allow_more(allowed: int, more: int) -> int:
    """What may be sent once a credit of ``more`` bytes has come where ``allowed`` were left. Raises TunnelProtocolViolated."""
    if more < 1 or allowed + more > LARGEST_ALLOWED:
        raise TunnelProtocolViolated(problem=f"a credit of {more} bytes")
    return allowed + more


class Phase(Enum):
    """How far a connection has come, seen from one end."""

    JOINING = "waits for the other end"
    BOTH = "sends and receives"
    SENDING = "the other end has said all"
    RECEIVING = "this end has said all"
    FINISHED = "both ends have said all"
    RESET = "reset"

    __hash__ = object.__hash__  # looked up at every frame; Enum's own is a Python function


# The truth about what may be received when, and what may be sent when. A credit, or a reset, may cross the fin that makes it void.
RECEIVE: Final[dict[tuple[Phase, type], Phase]] = {
    (Phase.JOINING, Joined): Phase.BOTH,
    (Phase.BOTH, Data): Phase.BOTH,
    (Phase.BOTH, Credit): Phase.BOTH,
    (Phase.BOTH, Fin): Phase.SENDING,
    (Phase.SENDING, Credit): Phase.SENDING,
    (Phase.RECEIVING, Data): Phase.RECEIVING,
    (Phase.RECEIVING, Credit): Phase.RECEIVING,
    (Phase.RECEIVING, Fin): Phase.FINISHED,
    (Phase.FINISHED, Credit): Phase.FINISHED,
    **{(phase, Reset): Phase.RESET for phase in Phase},
}
SEND: Final[dict[tuple[Phase, type], Phase]] = {
    (Phase.JOINING, Data): Phase.JOINING,
    (Phase.BOTH, Data): Phase.BOTH,
    (Phase.BOTH, Credit): Phase.BOTH,
    (Phase.BOTH, Fin): Phase.RECEIVING,
    (Phase.SENDING, Data): Phase.SENDING,
    (Phase.SENDING, Fin): Phase.FINISHED,
    (Phase.RECEIVING, Credit): Phase.RECEIVING,
    **{(phase, Reset): Phase.RESET for phase in Phase if phase is not Phase.RESET},
}


@dataclass(frozen=True, slots=True)
class EndLimits:
    """After how many seconds an end gives a connection up. None: never.

    ``idle_s``: no byte went either way. ``longest_s``: since its beginning. ``linger_s``: one direction is over, and no byte went in
    the other one. ``close_s``: everything is said, and the stream does not end.
    """

    idle_s: float | None = None
    longest_s: float | None = None
    linger_s: float | None = 600.0
    close_s: float = 60.0


class ConnectionEnd:
    """One end of a connection."""

    __slots__ = (
        "_allowance",
        "_allowed",
        "_backlog",
        "_began_at",
        "_budget",
        "_drained",
        "_eof",
        "_grown",
        "_limits",
        "_moved_at",
        "_outbox",
        "_phase",
        "_reset",
        "_uncredited",
        "_window",
        "received",
        "sent_bytes",
    )

    def __init__(
        self,
        now: float,
        *,
        budget: Budget,
        own_window: int = FIRST_WINDOW,
        peer_window: int | None = None,
        limits: EndLimits | None = None,
    ) -> None:
        """``own_window``: what the other end was told that it may send; ``peer_window``: what it told, None while it is awaited."""
        self._phase = Phase.JOINING if peer_window is None else Phase.BOTH
        self._allowance = EARLY_BYTES if peer_window is None else peer_window
        self._allowed = own_window  # what the other end may still send
        self._window = own_window
        self._backlog = 0  # received, and not yet taken by the socket
        self._uncredited = 0  # taken by the socket, and not yet allowed again
        self._drained = 0  # taken by the socket since the window grew
        self._grown = 0
        self._budget = budget
        self._limits = limits if limits is not None else EndLimits()
        self._outbox: deque[Frame] = deque()
        self._eof = False
        self._reset: Reset | None = None
        self._began_at = self._moved_at = now
        self.received = 0
        self.sent_bytes = 0

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    @property
    def window(self) -> int:
        """How many bytes this end takes at most before it allows more."""
        return self._window

    @property
    def backlog(self) -> int:
        """Bytes that were received and wait for the socket."""
        return self._backlog

    @property
    def reset(self) -> Reset | None:
        """Why it was reset; None where it was not."""
        return self._reset

    @property
    def sendable(self) -> int:
        """How many bytes may be read from the socket and sent now."""
        return 0 if self._eof or self._reset is not None else self._allowance

    @property
    def write_over(self) -> bool:
        """Whether the socket has got everything that ever comes, so that its writing side can be shut."""
        return self._phase in (Phase.SENDING, Phase.FINISHED) and not self._backlog

    @property
    def over(self) -> bool:
        """Whether nothing is left to do but to send what is in `next_frame`."""
        return self._phase is Phase.RESET or (self._phase is Phase.FINISHED and not self._backlog)

    # --- from the socket to the stream ------------------------------------------------------------------------------------

    def sent(self, count: int, now: float) -> None:
        """``count`` bytes of the socket are sent as data. Raises TunnelProtocolViolated where they may not be."""
        if (self._phase, Data) not in SEND or count > self.sendable:
            raise TunnelProtocolViolated(problem=f"{count} bytes sent while {self._allowance} are allowed")
        self._allowance -= count
        self.sent_bytes += count
        self._moved_at = now

    def local_eof(self, now: float) -> None:
        """The socket has said all."""
        self._eof = True
        self._moved_at = now
        if self._phase in (Phase.BOTH, Phase.SENDING):
            self._say_fin()

    @property
    def pending(self) -> bool:
        """Whether `next_frame` has something."""
        return bool(self._outbox)

    def next_frame(self) -> Frame | None:
        """What is to be sent next besides data; it counts as sent."""
        return self._outbox.popleft() if self._outbox else None

    def _say_fin(self) -> None:
        self._phase = SEND[self._phase, Fin]
        self._outbox.append(Fin())

    # --- from the stream to the socket ------------------------------------------------------------------------------------

    def receive(self, frame: Frame, now: float) -> None:
        """A frame came. Raises TunnelProtocolViolated when it breaks the rules; `close` with PROTOCOL is what to do then."""
        following = RECEIVE.get((self._phase, type(frame)))
        if following is None:
            if self._phase is Phase.RESET:
                return  # it was on its way when this end reset the connection
            raise TunnelProtocolViolated(
                problem=f"{type(frame).__name__.lower()} came while this end {self._phase.value}"
            )
        match frame:
            case Data():
                self.receive_data(len(frame.payload), now)
            case Credit():
                self._allowance = allow_more(self._allowance, frame.bytes)
            case Joined():
                self._allowance += check_window(frame.window) - EARLY_BYTES
            case Reset():
                self._over_by(frame)
            case Fin():
                pass
        self._phase = following
        if self._eof and isinstance(frame, Joined):
            self._say_fin()

    def receive_data(self, count: int, now: float) -> None:
        """A data frame with ``count`` bytes came: `receive` for the most frequent frame. Raises TunnelProtocolViolated."""
        if (self._phase, Data) not in RECEIVE:
            if self._phase is Phase.RESET:
                return
            raise TunnelProtocolViolated(problem=f"data came while this end {self._phase.value}")
        if count > self._allowed or count > MAX_DATA:
            raise TunnelProtocolViolated(problem=f"{count} bytes came while {self._allowed} were allowed")
        self._allowed -= count
        self._backlog += count
        self.received += count
        self._moved_at = now

    def delivered(self, count: int, now: float) -> None:
        """The socket has taken ``count`` bytes."""
        self._backlog -= count
        self._moved_at = now
        if (self._phase, Credit) not in SEND:
            return
        self._uncredited += count
        self._drained += count
        if self._drained >= self._window and not self._backlog:
            self._grow()
        if self._uncredited * 2 >= self._window:
            self._allowed += self._uncredited
            self._outbox.append(Credit(self._uncredited))
            self._uncredited = 0

    def _grow(self) -> None:
        """The socket has taken a whole window, and nothing waits for it: it is the window that holds the other end up."""
        self._drained = 0
        taken = self._budget.take(min(self._window, LARGEST_WINDOW - self._window))
        self._grown += taken
        self._window += taken
        self._uncredited += taken

    # --- the end ----------------------------------------------------------------------------------------------------------

    def stream_ended(self) -> None:
        """The stream is over. Where not everything was said before, that is a reset."""
        if self._phase is not Phase.FINISHED:
            self._over_by(Reset(TunnelEnd.RESET, "the stream ended"))
        self._outbox.clear()

    def close(self, end: TunnelEnd, detail: str = "") -> None:
        """Reset the connection, and say so to the other end."""
        if self._phase is not Phase.RESET:
            frame = Reset(end, detail)
            self._over_by(frame)
            self._outbox.append(frame)

    def release(self) -> None:
        """Give back what the window grew by. To be called once, when the end is not used any more."""
        self._budget.give(self._grown)
        self._grown = 0

    def deadline(self) -> float | None:
        """When to call `tick`; None for never."""
        times = [at for at, _, _ in self._ends_at()]
        return min(times, default=None)

    def tick(self, now: float) -> bool:
        """Give up a connection whose time is over; whether it was."""
        for at, end, detail in self._ends_at():
            if now >= at:
                self.close(end, detail)
                return True
        return False

    def _ends_at(self) -> list[tuple[float, TunnelEnd, str]]:
        if self.over:
            return []
        limits, times = self._limits, []
        if limits.longest_s is not None:
            times.append((self._began_at + limits.longest_s, TunnelEnd.LONGEST, ""))
        if limits.idle_s is not None:
            times.append((self._moved_at + limits.idle_s, TunnelEnd.IDLE, ""))
        if limits.linger_s is not None and self._phase in (Phase.SENDING, Phase.RECEIVING, Phase.FINISHED):
            detail = "one direction was over, and nothing was sent in the other"
            times.append((self._moved_at + limits.linger_s, TunnelEnd.IDLE, detail))
        return times

    def _over_by(self, frame: Reset) -> None:
        if self._phase is not Phase.RESET:
            self._reset = frame
        self._phase = Phase.RESET
        self._backlog = 0
        self._outbox.clear()
