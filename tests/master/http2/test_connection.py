"""The server's end of HTTP/2 as sequence diagrams: what a peer says, what the server makes of it, what it says back."""

import struct

import pytest
from hpack import Decoder

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2 import frames
from tenantry.master.http2.connection import (
    CallCancelled,
    CallOpened,
    Connection,
    ConnectionOver,
    Drained,
    InputEnded,
    MessageReceived,
)
from tenantry.master.http2.fields import encode_fields, trailers
from tenantry.master.http2.frames import ErrorCode
from tenantry.master.http2.limits import Limits
from tests.master.http2.talking import CONNECT, REQUEST, Frame, Talk, message, opened, split_frames

ENDS = frames.END_STREAM | frames.END_HEADERS


def fields_of(frame: Frame) -> dict[bytes, bytes]:
    """The header fields of a frame, as another implementation reads them."""
    return dict(Decoder().decode(frame.payload, raw=True))


def number(frame: Frame) -> int:
    """The number that a frame consists of."""
    return int(struct.unpack(">I", frame.payload)[0])


def test_the_server_says_its_settings_first_and_acknowledges_the_peers() -> None:
    """Its windows and bounds are in the first frames; GOAWAY is not among them."""
    talk = Talk()
    settings, window = talk.hear()
    assert dict(frames.SETTING.iter_unpack(settings.payload)) == {
        frames.HEADER_TABLE_SIZE: 0,
        frames.MAX_CONCURRENT_STREAMS: 16,
        frames.INITIAL_WINDOW_SIZE: 262_144,
        frames.MAX_HEADER_LIST_SIZE: 8_192,
    }
    assert (window.kind, window.stream) == (frames.WINDOW_UPDATE, 0)
    before = talk.server.greeted
    assert talk.say(frames.PREFACE, frames.settings({})) == []
    assert (before, talk.server.greeted) == (False, True)
    assert talk.hear() == [Frame(frames.SETTINGS, frames.ACK, 0, b"")]


def test_a_call_is_opened_fed_answered_and_ended() -> None:
    """Head, message, end of input; head, message and trailers back."""
    talk = Talk()
    talk.greet()
    (event,) = talk.call(1, (b"x-one", b"1"), (b"two-bin", b"AAE"), (b"grpc-timeout", b"20S"))
    assert isinstance(event, CallOpened)
    assert event.stream == 1
    assert event.head.path == CONNECT
    assert event.head.timeout_s == 20
    assert event.head.metadata == (("x-one", "1"), ("two-bin", b"\x00\x01"))
    assert talk.data(message(b"hello")) == [MessageReceived(1, b"hello")]
    assert talk.data(b"", flags=frames.END_STREAM) == [InputEnded(1)]
    assert talk.server.send(1, b"hi")
    talk.server.end(1)
    head, data, tail = talk.hear()
    assert fields_of(head)[b":status"] == b"200"
    assert data == Frame(frames.DATA, 0, 1, message(b"hi"))
    assert tail.flags == ENDS
    assert fields_of(tail) == {b"grpc-status": b"0"}


def test_a_call_that_fails_at_once_is_answered_by_one_block_and_its_input_is_not_needed() -> None:
    """Status, message and details in trailers alone; the peer is told to send no more, and what was on its way does no harm."""
    talk = opened()
    talk.server.end(1, trailers(7, "no, nö", [("grpc-status-details-bin", b"\x08\x07")]))
    tail, reset = talk.hear()
    assert tail.flags == ENDS
    assert fields_of(tail) == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"grpc-accept-encoding": b"identity",
        b"grpc-status": b"7",
        b"grpc-message": b"no, n%C3%B6",
        b"grpc-status-details-bin": b"CAc",
    }
    assert (reset.kind, number(reset)) == (frames.RST_STREAM, ErrorCode.NO_ERROR)
    assert talk.data(message(b"late")) == []
    assert talk.call(3) != []


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
def test_bytes_may_come_in_any_portions(size: int) -> None:
    """The same events as if all had come at once."""
    talk = Talk()
    said = (
        frames.PREFACE
        + frames.settings({})
        + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, encode_fields(REQUEST))
        + frames.frame(frames.DATA, 0, 1, message(b"a" * 600)[:300])
        + frames.frame(frames.DATA, 0, 1, message(b"a" * 600)[300:] + message(b"") + message(b"b"))
        + frames.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x03" + message(b"c") + bytes(3))
    )
    events = [event for at in range(0, len(said), size) for event in talk.say(said[at : at + size])]
    assert [type(event) for event in events[:1]] == [CallOpened]
    assert events[1:] == [MessageReceived(1, one) for one in (b"a" * 600, b"", b"b", b"c")] + [InputEnded(1)]
    assert talk.server.held > 0
    for one in (b"a" * 600, b"", b"b", b"c"):
        talk.server.taken(1, len(one))
    assert talk.server.held == 0


def test_fields_may_come_in_further_frames() -> None:
    """HEADERS with padding and a priority, then two continuations."""
    talk = Talk()
    talk.greet()
    block = encode_fields(REQUEST)
    flags = frames.PADDED | frames.PRIORITISED
    assert talk.say(frames.frame(frames.HEADERS, flags, 1, b"\x02" + bytes(5) + block[:10] + bytes(2))) == []
    assert talk.say(frames.frame(frames.CONTINUATION, 0, 1, block[10:20])) == []
    (event,) = talk.say(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:]))
    assert isinstance(event, CallOpened)


def test_a_message_beyond_the_peers_window_waits_for_it_and_so_does_the_end() -> None:
    """No byte more than allowed; trailers come behind the last."""
    talk = opened(window=10)
    assert not talk.server.send(1, b"x" * 20)
    assert talk.server.stuck
    talk.server.end(1)
    _, first = talk.hear()
    assert first.payload == message(b"x" * 20)[:10]
    assert talk.say(frames.window_update(1, 14)) == []
    assert [frame.payload for frame in talk.hear()] == [message(b"x" * 20)[10:24]]
    assert talk.say(frames.window_update(1, 100)) == [Drained(1)]
    last, tail, _ = talk.hear()
    assert last.payload == b"x"
    assert fields_of(tail) == {b"grpc-status": b"0"}
    assert not talk.server.stuck


def test_settings_change_the_windows_of_open_calls_and_can_make_them_negative() -> None:
    """A window that shrinks below what was sent must grow by as much before anything goes on (RFC 9113, 6.9.2)."""
    talk = opened(window=30)
    assert talk.server.send(1, b"x" * 20)
    talk.hear()
    talk.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 5}))
    assert not talk.server.send(1, b"yy")
    assert [frame.kind for frame in talk.hear()] == [frames.SETTINGS]
    talk.say(frames.window_update(1, 20))
    assert talk.hear() == []
    assert talk.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 30})) == [Drained(1)]


def test_the_connections_window_is_shared_by_its_calls() -> None:
    """What one call has used up the other waits for."""
    talk = opened(window=frames.LARGEST_WINDOW)
    talk.call(3)
    assert not talk.server.send(1, bytes(frames.DEFAULT_WINDOW))
    assert not talk.server.send(3, b"x")
    assert set(talk.say(frames.window_update(0, 100))) == {Drained(1), Drained(3)}


def test_a_large_message_is_sent_in_frames_that_every_peer_takes() -> None:
    """16 KiB each, whatever larger ones the peer would take."""
    talk = opened(window=frames.LARGEST_WINDOW)
    talk.say(frames.window_update(0, 1 << 24), frames.settings({frames.MAX_FRAME_SIZE: 1 << 20}))
    talk.hear()
    assert talk.server.send(1, bytes(100_000))
    sent = [frame for frame in talk.hear() if frame.kind == frames.DATA]
    assert b"".join(frame.payload for frame in sent) == message(bytes(100_000))
    assert max(len(frame.payload) for frame in sent) == frames.MAX_FRAME


def test_windows_grow_again_as_messages_are_taken_and_not_before() -> None:
    """A peer that keeps to its windows can never make the server hold more than they say."""
    talk = opened()
    allowed = 262_144
    sent = 0
    payload = message(bytes(16_000))
    while sent + len(payload) <= allowed:
        talk.data(payload)
        sent += len(payload)
        allowed += sum(number(frame) for frame in talk.hear() if frame.stream == 1)
    assert talk.server.held < 262_144 + 131_072 + 50 * 64 + 16_384
    while talk.server.held:
        talk.server.taken(1, 16_000)
    assert sum(number(frame) for frame in talk.hear() if frame.stream == 1) >= 131_072


def test_a_message_may_be_larger_than_a_window() -> None:
    """1 MiB comes through windows of 256 KiB; one byte more is refused with a status, and the next call goes on."""
    talk = opened()
    whole, got = message(bytes(1 << 20)), []
    for at in range(0, len(whole), 16_384):
        got += talk.data(whole[at : at + 16_384])
    assert got == [MessageReceived(1, bytes(1 << 20))]
    talk.server.taken(1, 1 << 20)
    talk.hear()
    talk.call(3)
    assert talk.data(struct.pack(">BI", 0, (1 << 20) + 1), stream=3) == [CallCancelled(3)]
    assert fields_of(talk.hear()[-2])[b"grpc-status"] == b"8"
    assert talk.data(message(b"x")) == [MessageReceived(1, b"x")]


def test_a_compressed_message_is_refused_with_a_status_once_it_is_complete() -> None:
    """UNIMPLEMENTED, as gRPC has it for an encoding that the server does not know."""
    talk = opened()
    assert talk.data(message(b"packed", compressed=True)) == [CallCancelled(1)]
    assert fields_of(talk.hear()[0])[b"grpc-status"] == b"12"


@pytest.mark.parametrize(
    ("changed", "status"), [((b":method", b"GET"), b"405"), ((b"content-type", b"text/html"), b"415")]
)
def test_what_is_no_call_of_grpc_is_answered_in_http(changed: tuple[bytes, bytes], status: bytes) -> None:
    """No handler hears of it."""
    talk = Talk()
    talk.greet()
    fields = tuple((name, changed[1] if name == changed[0] else value) for name, value in REQUEST)
    assert talk.say(frames.frame(frames.HEADERS, ENDS, 1, encode_fields(fields))) == []
    assert fields_of(talk.hear()[0]) == {b":status": status}


MALFORMED = {
    "no path": tuple(field for field in REQUEST if field[0] != b":path"),
    "a path twice": (*REQUEST[:4], (b":path", b"/other"), *REQUEST[4:]),
    "a pseudo header behind a header": (*REQUEST, (b":authority", b"x")),
    "an unknown pseudo header": ((b":protocol", b"x"), *REQUEST),
    "a capital": (*REQUEST, (b"X-Capital", b"x")),
    "a line break": (*REQUEST, (b"x-break", b"a\nb")),
    "a header of HTTP/1": (*REQUEST, (b"connection", b"close")),
    "a time-out without a unit": (*REQUEST, (b"grpc-timeout", b"20")),
    "what is not base64": (*REQUEST, (b"x-bin", b"!")),
}


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_a_malformed_request_is_reset_and_the_next_one_is_served(name: str) -> None:
    """The connection's state of compression is intact, so it goes on."""
    talk = Talk()
    talk.greet()
    assert talk.say(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, encode_fields(MALFORMED[name]))) == []
    (reset,) = talk.hear()
    assert (reset.kind, number(reset)) == (frames.RST_STREAM, ErrorCode.PROTOCOL_ERROR)
    assert len(talk.call(3)) == 1


def test_calls_beyond_the_bound_are_refused_until_one_has_ended() -> None:
    """REFUSED_STREAM says that nothing was done: the peer may try again."""
    talk = Talk(Limits(streams=2))
    talk.greet()
    talk.call(1)
    talk.call(3)
    assert talk.call(5) == []
    (reset,) = talk.hear()
    assert (reset.stream, number(reset)) == (5, ErrorCode.REFUSED_STREAM)
    talk.server.end(1)
    assert len(talk.call(7)) == 1


def test_a_peer_can_cancel_a_call_and_an_unfinished_message_cancels_it_too() -> None:
    """Nothing of it is held any more."""
    talk = opened()
    talk.data(message(b"unfinished")[:8])
    assert talk.server.held == 8
    assert talk.say(frames.reset(1, ErrorCode.CANCEL)) == [CallCancelled(1)]
    assert talk.server.held == 0
    talk.call(3)
    assert talk.data(message(b"unfinished")[:8], 3, frames.END_STREAM) == [CallCancelled(3)]
    assert number(talk.hear()[-1]) == ErrorCode.PROTOCOL_ERROR


def test_trailers_of_a_peer_end_its_input() -> None:
    """gRPC's clients send none, others may."""
    talk = opened()
    assert talk.say(frames.frame(frames.HEADERS, ENDS, 1, encode_fields(((b"x-end", b"1"),)))) == [InputEnded(1)]
    assert talk.say(frames.frame(frames.HEADERS, ENDS, 1, encode_fields(()))) == [CallCancelled(1)]


def test_after_goaway_open_calls_go_on_and_new_ones_do_not_begin() -> None:
    """The peer is told which call was the last."""
    talk = opened()
    talk.server.go_away()
    (going,) = talk.hear()
    assert frames.GOING.unpack(going.payload) == (1, ErrorCode.NO_ERROR)
    assert talk.call(3) == []
    assert talk.data(message(b"on")) == [MessageReceived(1, b"on")]
    talk.server.go_away()
    assert talk.hear() == []


def test_pings_are_answered_and_what_is_unknown_is_passed_over() -> None:
    """An answer carries the same eight bytes; frames of extensions mean nothing."""
    talk = opened()
    assert talk.say(frames.frame(frames.PING, 0, 0, b"12345678")) == []
    assert talk.hear() == [Frame(frames.PING, frames.ACK, 0, b"12345678")]
    unknown = frames.frame(0xFA, 0xFF, 1, b"whatever")
    assert talk.say(unknown, frames.frame(frames.PRIORITY, 0, 5, bytes(5))) == []
    assert talk.say(frames.frame(frames.PING, frames.ACK, 0, bytes(8)), frames.go_away(0, ErrorCode.NO_ERROR)) == []
    assert talk.hear() == []
    talk.server.ping()
    assert [frame.kind for frame in talk.hear()] == [frames.PING]


BREAKING: dict[str, tuple[bytes, ErrorCode]] = {
    "HTTP/1": (b"GET / HTTP/1.1\r\n\r\n      ", ErrorCode.PROTOCOL_ERROR),
    "no settings first": (frames.PREFACE + frames.frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "data first": (frames.PREFACE + frames.frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
}
OPEN_BREAKING: dict[str, tuple[bytes, ErrorCode]] = {
    "a frame that is too large": (
        frames.HEAD.pack(frames.MAX_FRAME >> 8, 1, frames.DATA, 0, 1),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "an interrupted block": (
        frames.frame(frames.HEADERS, 0, 3, b"") + frames.frame(frames.PING, 0, 0, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "data within a block": (
        frames.frame(frames.HEADERS, 0, 3, b"") + frames.frame(frames.DATA, 0, 1, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (frames.frame(frames.CONTINUATION, 0, 3, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a stream of the server's": (frames.frame(frames.HEADERS, ENDS, 2, b""), ErrorCode.PROTOCOL_ERROR),
    "a block that cannot be decoded": (
        frames.frame(frames.HEADERS, ENDS, 3, b"\xff\xff\xff\xff"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "data for nothing": (frames.frame(frames.DATA, 0, 9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data for the connection": (frames.frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a reset of nothing": (frames.reset(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "a short reset": (frames.frame(frames.RST_STREAM, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a window for nothing": (frames.window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "a window of nothing": (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window without bounds": (frames.window_update(0, frames.LARGEST_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
    "a short window": (frames.frame(frames.WINDOW_UPDATE, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "an initial window without bounds": (
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a small frame size": (frames.settings({frames.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
    "half a truth": (frames.settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "settings of a stream": (frames.frame(frames.SETTINGS, 0, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
    "half a setting": (frames.frame(frames.SETTINGS, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "a push": (frames.frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a short ping": (frames.frame(frames.PING, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a short priority": (frames.frame(frames.PRIORITY, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a short goaway": (frames.frame(frames.GOAWAY, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "more padding than data": (frames.frame(frames.DATA, frames.PADDED, 1, b"\x05x"), ErrorCode.PROTOCOL_ERROR),
    "padding of nothing": (frames.frame(frames.DATA, frames.PADDED, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
    "a priority without room": (
        frames.frame(frames.HEADERS, frames.PRIORITISED | ENDS, 3, b"x"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
}


def check_broken(talk: Talk, said: bytes, code: ErrorCode) -> None:
    """The peer is told GOAWAY with this code, the owner that the connection is over, and nothing is read any more."""
    *_, last = talk.say(said)
    assert isinstance(last, ConnectionOver)
    assert last.end is ConnectionEnd.PROTOCOL
    assert frames.GOING.unpack_from(talk.hear()[-1].payload)[1] == code
    assert talk.call(11) == []


@pytest.mark.parametrize("name", sorted(BREAKING))
def test_who_does_not_begin_as_http2_does_is_sent_away(name: str) -> None:
    """Before anything is opened."""
    check_broken(Talk(), *BREAKING[name])


@pytest.mark.parametrize("name", sorted(OPEN_BREAKING))
def test_who_breaks_a_rule_of_the_connection_ends_it_with_its_calls(name: str) -> None:
    """The open call is told that it is cancelled."""
    talk = opened()
    events = talk.say(OPEN_BREAKING[name][0])
    assert events[0] == CallCancelled(1)
    check_broken(opened(), *OPEN_BREAKING[name])


def test_a_window_of_a_stream_without_bounds_ends_that_call_alone() -> None:
    """So does one of nothing, and data beyond what was allowed."""
    for said in (frames.window_update(1, frames.LARGEST_WINDOW), frames.window_update(1, 0)):
        talk = opened()
        talk.call(3)
        assert talk.say(said) == [CallCancelled(1)]
        assert talk.data(message(b"x"), 3) == [MessageReceived(3, b"x")]
    talk = opened(Limits(stream_window=100))
    assert talk.data(bytes(101)) == [CallCancelled(1)]
    assert number(talk.hear()[-1]) == ErrorCode.FLOW_CONTROL_ERROR


def test_more_data_than_the_connection_allows_ends_it() -> None:
    """Streams cannot be used to get around the bound of all together."""
    talk = opened(Limits(held=65_536 + 32_768, stream_window=1 << 20))
    for _ in range(6):
        talk.data(struct.pack(">BI", 0, 1 << 20) + bytes(16_000))
    assert talk.server.held < 65_536 + 32_768
    *_, last = talk.data(bytes(16_000))
    assert isinstance(last, ConnectionOver)


def test_trailers_that_are_long_go_into_several_frames() -> None:
    """Every peer can take them."""
    talk = opened()
    talk.server.end(1, trailers(3, "x" * 40_000))
    first, second, third, _ = talk.hear()
    assert [frame.kind for frame in (first, second, third)] == [frames.HEADERS, *[frames.CONTINUATION] * 2]
    assert third.flags == frames.END_HEADERS
    whole = Decoder(max_header_list_size=1 << 20).decode(first.payload + second.payload + third.payload, raw=True)
    assert dict(whole)[b"grpc-message"] == b"x" * 40_000


def test_what_is_sent_on_a_call_that_is_over_goes_nowhere() -> None:
    """Handlers may end later than their call."""
    talk = opened()
    talk.say(frames.reset(1, ErrorCode.CANCEL))
    assert talk.server.send(1, b"x")
    talk.server.end(1)
    talk.server.reset(1, ErrorCode.CANCEL)
    talk.server.taken(1, 5)
    assert split_frames(talk.server.take()) == []


def test_a_connection_begins_within_its_bounds() -> None:
    """A fresh one holds nothing and waits for nothing."""
    server = Connection(Limits(), 0.0)
    assert (server.held, server.stuck, server.greeted, server.going) == (0, False, False, False)
