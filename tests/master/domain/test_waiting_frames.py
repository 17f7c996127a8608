"""What waits for an end weighs hardly more than its bytes, and is what was said."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.waiting_frames import SMALL, WaitingFrames
from tenantry.protocol.tunnels.frames import Data, Fin, decode_frame, encode_frame, payload_of

UNKNOWN = b"\x3a\x03abc"
"""A field that the contract does not have, which every reader of protobuf skips."""
AROUND = st.sampled_from(((b"", b""), (UNKNOWN, b""), (b"", b"\x38\x01"), (b"", UNKNOWN * 5_000), (b"\x0a\x02no", b"")))
SIZES = st.one_of(st.integers(1, 300), st.integers(SMALL - 5, SMALL + 5), st.just(100_000))


def drained(waiting: WaitingFrames) -> list[tuple[bytes, int]]:
    """Everything that waits."""
    return [waiting.take() for _ in range(len(waiting))]


@given(st.lists(st.tuples(SIZES, AROUND), max_size=20), st.booleans())
def test_bytes_come_out_in_their_order_whatever_stood_around_them(
    pieces: list[tuple[int, tuple[bytes, bytes]]], ends: bool
) -> None:
    """Frames in any encoding; their bytes come out once, nothing is put behind an end of the direction but in its place."""
    waiting, wanted = WaitingFrames(), bytearray()
    for number, (size, (before, behind)) in enumerate(pieces):
        payload = bytes([number % 256]) * size
        waiting.put(before + encode_frame(Data(memoryview(payload))) + behind, size)
        wanted += payload
    if ends:
        waiting.put(encode_frame(Fin()) + UNKNOWN * 5_000)
    found = drained(waiting)
    if ends:
        assert found.pop() == (encode_frame(Fin()), 0)
    frames = [decode_frame(message) for message, _ in found]
    assert all(isinstance(frame, Data) for frame in frames)
    assert b"".join(bytes(frame.payload) for frame in frames if isinstance(frame, Data)) == wanted
    assert [count for _, count in found] == [len(frame.payload) for frame in frames if isinstance(frame, Data)]


def test_a_byte_at_a_time_weighs_hardly_more_than_bytes() -> None:
    """Small pieces that wait are put together, and what stands around a byte is not kept."""
    waiting = WaitingFrames()
    for _ in range(20_000):
        waiting.put(b"\x0a\x01x", 1)
    waiting.put(UNKNOWN * 10_000 + b"\x0a\x01x", 1)
    found = drained(waiting)
    assert sum(sys.getsizeof(message) for message, _ in found) < 2 * 20_001
    assert sum(len(payload_of(message) or b"") for message, _ in found) == 20_001
