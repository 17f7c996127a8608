"""What a peer can make the server do is counted: each flood ends its connection, and ordinary traffic never does."""

from collections.abc import Callable

import pytest

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2 import frames
from tenantry.master.http2.connection import ConnectionOver, Event
from tenantry.master.http2.fields import encode_fields
from tenantry.master.http2.frames import ErrorCode
from tenantry.master.http2.limits import Allowance, Limits
from tests.master.http2.talking import REQUEST, Talk, message, opened

ENDS = frames.END_STREAM | frames.END_HEADERS


def reset_at_once(talk: Talk, turn: int) -> list[Event]:
    """Rapid reset: a call that is cancelled in the same breath."""
    number = 2 * turn + 3
    return [*talk.call(number), *talk.say(frames.reset(number, ErrorCode.CANCEL))]


FLOODS: dict[str, Callable[[Talk, int], list[Event]]] = {
    "rapid reset": reset_at_once,
    "settings": lambda talk, _: talk.say(frames.settings({})),
    "settings acknowledged": lambda talk, _: talk.say(frames.frame(frames.SETTINGS, frames.ACK, 0)),
    "pings": lambda talk, _: talk.say(frames.frame(frames.PING, 0, 0, bytes(8))),
    "answers to pings": lambda talk, _: talk.say(frames.frame(frames.PING, frames.ACK, 0, bytes(8))),
    "empty data": lambda talk, _: talk.data(b""),
    "padding alone": lambda talk, _: talk.say(frames.frame(frames.DATA, frames.PADDED, 1, b"\x00")),
    "priorities": lambda talk, _: talk.say(frames.frame(frames.PRIORITY, 0, 1, bytes(5))),
    "windows": lambda talk, _: talk.say(frames.window_update(1, 1)),
    "windows of the connection": lambda talk, _: talk.say(frames.window_update(0, 1)),
    "unknown frames": lambda talk, _: talk.say(frames.frame(0x77, 0, 0, b"x")),
    "calls that are refused": lambda talk, turn: talk.say(
        frames.frame(frames.HEADERS, ENDS, 2 * turn + 3, encode_fields(REQUEST[:1]))
    ),
    "calls that are none": lambda talk, turn: talk.say(
        frames.frame(frames.HEADERS, ENDS, 2 * turn + 3, encode_fields(((b":method", b"GET"), *REQUEST[1:])))
    ),
}


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_a_flood_ends_its_connection(name: str) -> None:
    """After no more than what is allowed at once, with ENHANCE_YOUR_CALM; nothing of it is kept meanwhile."""
    talk = opened()
    told = [event for turn in range(1_100) for event in FLOODS[name](talk, turn)]
    assert isinstance(told[-1], ConnectionOver)
    assert told[-1].end is ConnectionEnd.FLOOD
    *_, going = talk.hear()
    assert frames.GOING.unpack_from(going.payload)[1] == ErrorCode.ENHANCE_YOUR_CALM
    assert talk.server.held == 0


def test_a_header_block_without_an_end_ends_its_connection() -> None:
    """Many small frames do, and few large ones."""
    for size in (1, frames.MAX_FRAME):
        talk = opened()
        talk.say(frames.frame(frames.HEADERS, 0, 3, b"\x00" * size))
        told = [talk.say(frames.frame(frames.CONTINUATION, 0, 3, b"\x00" * size)) for _ in range(9)]
        assert isinstance(next(events for events in told if events)[-1], ConnectionOver)


def test_header_fields_are_bounded_as_they_are_and_not_as_they_come() -> None:
    """A few bytes that unpack to megabytes (RFC 7541, 7.3) are stopped at 8 KiB."""
    talk = opened()
    insert = b"\x40\x01a\x7f\x81\x1e" + b"x" * 4_000  # into the dynamic table, then named again and again
    events = talk.say(frames.frame(frames.HEADERS, ENDS, 3, insert + b"\xbe" * 1_000))
    assert isinstance(events[-1], ConnectionOver)
    assert events[-1].end is ConnectionEnd.FLOOD


def test_pings_at_the_pace_of_a_client_are_never_too_many() -> None:
    """An hour of keepalive every five seconds; every two seconds it is told so, unless it is sent something meanwhile."""
    patient, hasty, served = opened(), opened(), opened()
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    for _ in range(720):
        patient.now += 5.0
        assert patient.say(ping) == []
        served.now += 1.0
        served.server.send(1, b"x")
        served.server.take()
        assert served.say(ping) == []
        patient.server.take()
    told: list[Event] = []
    for _ in range(4):
        hasty.now += 2.0
        told += hasty.say(ping)
    assert isinstance(told[-1], ConnectionOver)
    assert b"too_many_pings" in hasty.hear()[-1].payload


def test_windows_that_follow_what_is_sent_are_never_too_many() -> None:
    """A reader of a long answer allows more with each frame; that is no flood."""
    talk = opened()
    talk.say(frames.window_update(0, 1 << 30), frames.window_update(1, 1 << 30))
    for _ in range(5_000):
        assert talk.server.send(1, bytes(8_000))
        assert talk.say(frames.window_update(0, 8_000), frames.window_update(1, 8_000)) == []
        talk.server.take()


def test_a_window_byte_by_byte_is_a_flood() -> None:
    """Nobody needs a frame of one byte for each of one byte."""
    talk = opened(window=0)
    assert not talk.server.send(1, bytes(60_000))
    told: list[Event] = []
    for _ in range(1_100):
        told += talk.say(frames.window_update(1, 1))
        talk.server.take()
    assert isinstance(told[-1], ConnectionOver)


def test_empty_messages_count_while_they_wait() -> None:
    """They cost memory too: a peer that sends nothing but them runs out of its window like any other."""
    talk = opened()
    allowed, sent = 262_144, 0
    payload = message(b"") * 1_000
    while sent + len(payload) <= allowed:
        talk.data(payload)
        sent += len(payload)
        allowed += sum(int.from_bytes(frame.payload) for frame in talk.hear() if frame.stream == 1)
    assert sent < 2 * 262_144


def test_an_allowance_fills_again_with_time_and_never_beyond_its_bound() -> None:
    """Three at once, one a second."""
    allowance = Allowance(3.0, 1.0, 0.0)
    assert [allowance.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take(5.0)
    assert [allowance.take(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_late_data_is_bounded_and_gives_the_connection_its_window_back() -> None:
    """Who goes on sending into a call that is over gets no more from it than a window's worth."""
    talk = opened(Limits(frames_burst=50.0))
    talk.server.end(1)
    told: list[Event] = []
    for _ in range(60):
        told += talk.data(bytes(8_000))
    assert isinstance(told[-1], ConnectionOver)
