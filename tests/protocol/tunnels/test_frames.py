"""Frames written by hand are those of the contract, in both directions, and whatever else comes is refused."""

import unicodedata
from functools import partial

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState, end_of_number
from tenantry.protocol.tunnels.frames import (
    MAX_DATA,
    MAX_HEAD,
    Credit,
    Data,
    Fin,
    Frame,
    Joined,
    Reset,
    decode_frame,
    encode_frame,
    head_of_data,
    payload_of,
)
from tenantry.v1 import tunnel_pb2
from tenantry.v1.tunnel_relay_service_pb2 import (
    AnswerBegin,
    AnswerRequest,
    AnswerResponse,
    DialBegin,
    DialRequest,
    DialResponse,
)

_NUMBERS = st.integers(0, (1 << 64) - 1)
_TEXTS = st.text(st.characters(categories=["L", "N", "P"]), max_size=100).map(partial(unicodedata.normalize, "NFC"))
_FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.binary(min_size=1, max_size=300).map(lambda payload: Data(memoryview(payload))),
    st.just(Fin()),
    st.builds(Credit, _NUMBERS),
    st.builds(Reset, st.sampled_from(TunnelEnd), _TEXTS),
    st.builds(Joined, _NUMBERS),
)


def message_of(frame: Frame) -> DialResponse:
    """The frame as protobuf has it."""
    match frame:
        case Data(payload):
            return DialResponse(data=bytes(payload))
        case Fin():
            return DialResponse(fin=tunnel_pb2.TunnelFin())
        case Credit(count):
            return DialResponse(credit=tunnel_pb2.TunnelCredit(bytes=count))
        case Reset(end, detail):
            reset = tunnel_pb2.TunnelReset(end=end.number, detail=detail)  # type: ignore[arg-type]
            return DialResponse(reset=reset)
        case Joined(window):
            return DialResponse(joined=tunnel_pb2.TunnelJoined(window=window))


@given(_FRAMES)
def test_frames_are_messages_of_the_contract(frame: Frame) -> None:
    """What we write protobuf reads, and what protobuf writes we read; whichever side's message it is."""
    for kind in (DialRequest, DialResponse, AnswerRequest, AnswerResponse):
        if not isinstance(frame, Joined) or kind in (DialResponse, AnswerResponse):
            assert kind.FromString(encode_frame(frame)) == kind.FromString(message_of(frame).SerializeToString())
    assert decode_frame(message_of(frame).SerializeToString()) == frame
    assert decode_frame(encode_frame(frame)) == frame


@given(st.lists(st.one_of(_FRAMES.map(encode_frame), st.binary(max_size=12), st.just(b"\x98\x06\x05")), max_size=4))
@example([b"\x1a\x02\x08\x05", b"\x1a\x00"])
@example([b"\x0a\x01a", b"\x0a\x01b"])
@example([b"\x22\x01\x00", b"\x0a\x01a"])
@example([b"\x22\x02\x00\x00"])
@example([b"\x22\x03\x12\x01\xff", b"\x0a\x01a"])
def test_whatever_protobuf_takes_means_the_same_here(parts: list[bytes]) -> None:
    """Several fields, unknown ones, parts of one message; what protobuf refuses is refused."""
    message = b"".join(parts)
    try:
        parsed = DialResponse.FromString(message)
    except DecodeError:
        with pytest.raises(TunnelProtocolViolated):
            decode_frame(message)
        return
    try:
        frame = decode_frame(message)
    except TunnelProtocolViolated:
        # Frames are stricter where a message says nothing: an empty one, data without a byte. Groups are of another age.
        assert parsed.WhichOneof("message") is None or parsed.data == b"" or any(one & 7 in (3, 4) for one in message)
        return
    kind = parsed.WhichOneof("message")
    assert kind == type(frame).__name__.lower()
    match frame:
        case Data(payload):
            assert payload == parsed.data
        case Credit(count):
            assert count == parsed.credit.bytes
        case Joined(window):
            assert window == parsed.joined.window
        case Reset(end, _):
            assert end is (end_of_number(parsed.reset.end) or TunnelEnd.RESET)
        case Fin():
            pass


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reader(message: bytes) -> None:
    """Every message is a frame or a violation, and the quick way never says otherwise than the long one."""
    payload = payload_of(message)
    try:
        frame = decode_frame(message)
    except TunnelProtocolViolated:
        assert payload is None
        return
    if payload is not None:
        assert frame == Data(payload)


@pytest.mark.parametrize("size", [1, 2, 127, 128, 16_383, 16_384, 65_536, MAX_DATA - 1, MAX_DATA])
def test_data_of_every_size_is_read_without_a_copy(size: int) -> None:
    """Each length of the head; one byte too few or too many is not taken for data of another length."""
    payload = bytes(size)
    head = head_of_data(size)
    assert len(head) <= MAX_HEAD
    message = head + payload
    assert message == DialRequest(data=payload).SerializeToString()
    found = payload_of(message)
    assert found is not None and bytes(found) == payload and found.obj is message
    for wrong in (message[:-1], message + b"\x00"):
        assert payload_of(wrong) is None
        with pytest.raises(TunnelProtocolViolated):
            decode_frame(wrong)


def test_more_than_a_frame_may_hold_is_refused() -> None:
    """Data beyond 1 MiB, details beyond their length cut, begins that come again."""
    with pytest.raises(TunnelProtocolViolated):
        decode_frame(head_of_data(MAX_DATA + 1) + bytes(MAX_DATA + 1))
    with pytest.raises(TunnelProtocolViolated):
        decode_frame(DialResponse(reset=tunnel_pb2.TunnelReset(detail="x" * 5_000)).SerializeToString())
    for begin in (DialRequest(begin=DialBegin(key="k")), AnswerRequest(begin=AnswerBegin(window=1))):
        with pytest.raises(TunnelProtocolViolated):
            decode_frame(begin.SerializeToString())
    long = Reset(TunnelEnd.RESET, "é" * 2_000)
    said = decode_frame(encode_frame(long))
    assert isinstance(said, Reset) and said.detail == "é" * 500


def test_a_strangers_detail_is_harmless() -> None:
    """What a terminal or a log would obey is shown as what it is not."""
    said = decode_frame(encode_frame(Reset(TunnelEnd.IDLE, "a\x1b[31m\u202eb")))
    assert isinstance(said, Reset) and said.detail.isprintable() and len(said.detail) == len("a\x1b[31m\u202eb")


def test_ends_and_states_are_those_of_the_contract() -> None:
    """Each with its number; one that is not known is a reset like any other."""
    numbers = {f"TUNNEL_END_{end.name}": end.number for end in TunnelEnd}
    assert {"TUNNEL_END_UNSPECIFIED": 0} | numbers == dict(tunnel_pb2.TunnelEnd.items())
    assert {f"TUNNEL_STATE_{state.name}" for state in TunnelState} == set(tunnel_pb2.TunnelState.keys()) - {
        "TUNNEL_STATE_UNSPECIFIED"
    }
    assert all(end.describe() and end_of_number(end.number) is end for end in TunnelEnd)
    assert end_of_number(0) is None
    assert decode_frame(b"\x22\x02\x08\x7f") == Reset(TunnelEnd.RESET)
