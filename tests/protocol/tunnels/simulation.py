"""Two ends and the Master between them, without I/O: whoever drives it decides what happens next; what must always hold is checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import LARGEST_ALLOWED, ConnectionEnd, EndLimits
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import MAX_DATA, Data, Joined, decode_frame, encode_frame
from tenantry.protocol.tunnels.watch import RelayWatch, Side

PATTERN = memoryview(bytes(number * 31 % 251 for number in range(251)) * 9_000)
MakeEnd = Callable[..., ConnectionEnd]


@dataclass
class Peer:
    """One end, the socket behind it, and what the Master has for it. The n-th byte of a socket is the n-th of `PATTERN`, repeated."""

    end: ConnectionEnd
    offered: int = 0  # what the socket had to say
    said: int = 0  # what of it was read
    closes: bool = False  # whether the socket says no more
    eof_seen: bool = False
    backlog: deque[memoryview] = field(default_factory=deque)
    got: int = 0  # what the socket has taken
    shut: bool = False  # whether the socket was told that nothing follows
    to_master: deque[bytes] = field(default_factory=deque)
    from_master: deque[bytes] = field(default_factory=deque)


class Wire:
    """A connection. Every method is one thing that may happen, and does nothing when it cannot."""

    def __init__(self, make: MakeEnd = ConnectionEnd, budget: int = 64 << 20) -> None:
        self.budget = Budget(budget)
        self.now = 0.0
        self.watch = RelayWatch()
        self.peers = {side: Peer(make(0.0, budget=self.budget, limits=EndLimits())) for side in Side}
        for peer in self.peers.values():
            peer.from_master.append(encode_frame(Joined(FIRST_WINDOW)))
        self.happened = 0
        """How many things have changed anything."""

    # --- what may happen --------------------------------------------------------------------------------------------------

    def offer(self, side: Side, count: int) -> None:
        """The socket has more to say."""
        peer = self.peers[side]
        if not peer.closes:
            peer.offered += count

    def close(self, side: Side) -> None:
        """The socket has said all."""
        self.peers[side].closes = True

    def read(self, side: Side, most: int = MAX_DATA) -> None:
        """The end reads from the socket what it may, and sends it."""
        peer = self.peers[side]
        count = min(peer.offered - peer.said, peer.end.sendable, most, MAX_DATA)
        if count:
            peer.end.sent(count, self.now)
            peer.to_master.append(encode_frame(Data(_pattern(peer.said, count))))
            peer.said += count
            self.happened += 1
        elif peer.closes and not peer.eof_seen and peer.said == peer.offered and peer.end.reset is None:
            peer.eof_seen = True
            self.happened += 1
            peer.end.local_eof(self.now)

    def speak(self, side: Side) -> None:
        """The end sends what it has to say besides data."""
        peer = self.peers[side]
        if (frame := peer.end.next_frame()) is not None:
            peer.to_master.append(encode_frame(frame))
            self.happened += 1

    def relay(self, side: Side) -> None:
        """The Master passes on the next message of an end."""
        peer = self.peers[side]
        if peer.to_master:
            message = peer.to_master.popleft()
            self.watch.take(side, message)
            self.peers[side.other].from_master.append(message)
            self.happened += 1

    def hear(self, side: Side) -> None:
        """The end receives the next message."""
        peer = self.peers[side]
        if peer.from_master:
            frame = decode_frame(peer.from_master.popleft())
            self.happened += 1
            peer.end.receive(frame, self.now)
            if isinstance(frame, Data) and peer.end.reset is None:
                peer.backlog.append(frame.payload)
            peer.shut = peer.shut or peer.end.write_over

    def take(self, side: Side, most: int = MAX_DATA) -> None:
        """The socket takes bytes, and is told the end of them."""
        peer = self.peers[side]
        if peer.backlog and peer.end.reset is None:
            first = peer.backlog.popleft()
            piece, rest = first[:most], first[most:]
            if len(rest):
                peer.backlog.appendleft(rest)
            assert piece == _pattern(peer.got, len(piece)), "bytes were lost, doubled or put out of order"
            peer.got += len(piece)
            self.happened += 1
            peer.end.delivered(len(piece), self.now)
        peer.shut = peer.shut or peer.end.write_over

    def reset(self, side: Side) -> None:
        """The end gives up."""
        self.peers[side].end.close(TunnelEnd.RESET, "somebody pulled the plug")

    # --- what must hold -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Whatever happened: credits hold, and a side is told the end of the other's bytes only behind all of them."""
        for side, peer in self.peers.items():
            other = self.peers[side.other]
            under_way = other.said - peer.got
            if peer.end.reset is None and other.end.reset is None:
                assert under_way <= peer.end.window, "more is on its way than the receiver has a window for"
            assert peer.end.window <= LARGEST_ALLOWED
            assert peer.end.backlog <= peer.end.window
            if peer.shut:
                assert other.closes and peer.got == other.offered, "the end was told before all bytes"
        assert 0 <= self.budget.left <= self.budget.total

    def settle(self) -> None:
        """Let everything that can still happen happen, in turns."""
        for _ in range(100_000):
            before = self.happened
            for side in Side:
                for step in (self.read, self.speak, self.relay, self.hear, self.take):
                    step(side)
                    self.check()
            if self.happened == before:
                return
        raise AssertionError("it never comes to rest")

    def finish(self) -> None:
        """Both sockets say all; everything has to arrive, or both ends have to be reset."""
        for side in Side:
            self.close(side)
        self.settle()
        ends = [peer.end for peer in self.peers.values()]
        assert all(end.over for end in ends), "an end waits for ever"
        if any(end.reset for end in ends):
            assert all(end.reset for end in ends), "one end knows nothing of the reset"
        else:
            for side, peer in self.peers.items():
                assert peer.shut and peer.got == self.peers[side.other].offered, "bytes were lost"
            assert self.watch.finished
        for end in ends:
            end.release()
        assert self.budget.left == self.budget.total, "a window was not given back"


def _pattern(place: int, count: int) -> memoryview:
    begin = place % 251
    return PATTERN[begin : begin + count]
