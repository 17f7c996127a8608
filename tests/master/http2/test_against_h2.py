"""The server's end against somebody else's client (h2), whatever is sent in whatever portions and windows."""

from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.master.http2 import frames
from tenantry.master.http2.connection import CallOpened, Connection, ConnectionOver, InputEnded, MessageReceived
from tenantry.master.http2.limits import Limits
from tests.master.http2.talking import REQUEST, message

MESSAGES = st.lists(st.binary(max_size=3_000) | st.integers(0, 200_000).map(bytes), max_size=6)


@dataclass
class Answer:
    """What the client has of one call."""

    data: bytes = b""
    status: bytes = b""
    ended: bool = False


class Pair:
    """A client of h2's and our server, joined by hand."""

    def __init__(self, window: int, portion: int) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.client.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.client.initiate_connection()
        self.server = Connection(Limits(), 0.0)
        self.portion = portion
        self.answers: dict[int, Answer] = {}
        self.got: dict[int, list[bytes]] = {}
        self.heard_out: set[int] = set()
        self.to_send: dict[int, bytes] = {}

    def turn(self) -> bool:
        """Carry what waits to the other side, both ways; whether anything did."""
        self._fill()
        out = self.client.data_to_send()
        for at in range(0, len(out), self.portion):
            for event in self.server.receive(memoryview(out[at : at + self.portion]), 0.0):
                assert not isinstance(event, ConnectionOver), event
                if isinstance(event, CallOpened):
                    self.got[event.stream] = []
                elif isinstance(event, MessageReceived):
                    self.got[event.stream].append(event.message)
                    self.server.taken(event.stream, len(event.message))
                elif isinstance(event, InputEnded):
                    self.heard_out.add(event.stream)
        back = self.server.take()
        for heard in self.client.receive_data(back):
            self._hear(heard)
        return bool(out or back)

    def settle(self) -> None:
        """Until nothing happens any more."""
        while self.turn():
            pass

    def begin(self, data: bytes) -> int:
        """Begin a call that sends this."""
        number = int(self.client.get_next_available_stream_id())
        self.client.send_headers(number, list(REQUEST))
        self.answers[number] = Answer()
        self.to_send[number] = data
        return number

    def _fill(self) -> None:
        for number, data in list(self.to_send.items()):
            room = min(self.client.local_flow_control_window(number), self.client.max_outbound_frame_size)
            part, rest = data[:room], data[room:]
            if part or not data:
                self.client.send_data(number, part, end_stream=not rest)
                self.to_send[number] = rest
            if not rest and (part or not data):
                del self.to_send[number]

    def _hear(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.answers[event.stream_id].data += event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self.answers[event.stream_id].status = dict(event.headers).get(b"grpc-status", b"")
        elif isinstance(event, h2.events.StreamEnded):
            self.answers[event.stream_id].ended = True
        assert not isinstance(event, h2.events.ConnectionTerminated), event


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(MESSAGES, MESSAGES), min_size=1, max_size=4),
    window=st.integers(1_000, 300_000),
    portion=st.integers(1_000, 70_000),
)
def test_what_is_sent_arrives_in_order_and_whole(
    calls: list[tuple[list[bytes], list[bytes]]], window: int, portion: int
) -> None:
    """Several calls at once, both ways; nothing is held when all is over."""
    pair = Pair(window, portion)
    pair.settle()
    numbers = [pair.begin(b"".join(map(message, asked))) for asked, _ in calls]
    pair.settle()
    for number, (asked, answers) in zip(numbers, calls, strict=True):
        assert pair.got[number] == asked
        assert number in pair.heard_out
        for answer in answers:
            pair.server.send(number, answer)
        pair.server.end(number)
    pair.settle()
    for number, (_, answers) in zip(numbers, calls, strict=True):
        assert pair.answers[number] == Answer(b"".join(map(message, answers)), b"0", ended=True)
    assert pair.server.held == 0
    assert not pair.server.stuck


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=400), cut=st.integers(1, 400))
def test_noise_ends_the_connection_or_means_nothing(noise: bytes, cut: int) -> None:
    """Whatever bytes come behind a good beginning: no other error, and no event for a call that is not there."""
    server = Connection(Limits(), 0.0)
    server.receive(memoryview(frames.PREFACE + frames.settings({})), 0.0)
    events = [*server.receive(memoryview(noise[:cut]), 0.0), *server.receive(memoryview(noise[cut:]), 0.0)]
    assert server.held <= len(noise) + 64 * len(noise)
    assert all(isinstance(event, ConnectionOver) for event in events[-1:] if not isinstance(event, CallOpened))


KINDS = st.sampled_from(range(11))


@settings(max_examples=200, deadline=None)
@given(
    said=st.lists(
        st.tuples(KINDS, st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5]), st.binary(max_size=20)), max_size=30
    )
)
def test_frames_in_any_order_do_no_harm(said: list[tuple[int, int, int, bytes]]) -> None:
    """Well-formed frames of all kinds, in an order that makes no sense."""
    server = Connection(Limits(), 0.0)
    server.receive(memoryview(frames.PREFACE + frames.settings({})), 0.0)
    for kind, flags, stream, payload in said:
        server.receive(memoryview(frames.frame(kind, flags, stream, payload)), 0.0)
        server.take()
    assert server.held <= sum(len(payload) + 64 for *_, payload in said)
