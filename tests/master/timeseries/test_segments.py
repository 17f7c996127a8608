import math
import struct
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.timeseries import segments
from tenantry.master.timeseries.frames import Frame, FrameTable
from tenantry.master.timeseries.segments import Segment, SegmentCorrupt, decode_segment, encode_segment, read_summary

MISTAKES = "a segment holds|each frame holds|values are bytes|does not fit in 64 bits"
INT64 = st.integers(-(2**63), 2**63 - 1)

WORDS: Any = memoryview(bytes(64)).cast("d")


def frame(
    tenant_id: int = 1, *, seq: int = 1, timestamps: Sequence[int] = (1000,), values: Sequence[float] = (1.0,)
) -> Frame:
    """A frame of layout 7."""
    return Frame(tenant_id, 7, seq, 1005, tuple(timestamps), struct.pack(f"<{len(values)}d", *values))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Any frame of one of five Tenants."""
    timestamps = tuple(draw(st.lists(INT64, min_size=1, max_size=4)))
    series = draw(st.integers(1, 5))
    values = draw(st.binary(min_size=8 * series * len(timestamps), max_size=8 * series * len(timestamps)))
    return Frame(draw(st.integers(1, 5)), draw(INT64), draw(st.integers(0, 2**64 - 1)), draw(INT64), timestamps, values)


def encode(given_frames: list[Frame]) -> Segment:
    """A segment of these frames."""
    return encode_segment(FrameTable.of_frames(given_frames))


def decode(data: bytes | bytearray | memoryview, wanted: Collection[int] | None = None) -> list[Frame]:
    """The frames of a segment, one by one."""
    return decode_segment(data, wanted).frames()


def many_frames(count: int, series: int = 100) -> list[Frame]:
    """Frames of 97 Tenants with values that hardly compress."""
    return [
        frame(number % 97, seq=number, values=[math.sin(number * series + n) for n in range(series)])
        for number in range(count)
    ]


@given(st.lists(frames(), min_size=1, max_size=30))
def test_frames_come_back_bit_for_bit_in_order(given_frames: list[Frame]) -> None:
    """A segment returns its frames, every bit of values, timestamps and numbers, in the order of the commit."""
    assert decode(encode(given_frames).data) == given_frames


@given(st.lists(frames(), min_size=1, max_size=30), st.sets(st.integers(0, 6)))
def test_a_filter_returns_only_the_frames_of_its_tenants(given_frames: list[Frame], wanted: set[int]) -> None:
    """A filtered read equals a full read from which the other Tenants were dropped."""
    expected = [each for each in given_frames if each.tenant_id in wanted]
    assert decode(encode(given_frames).data, wanted) == expected


@given(st.lists(frames(), min_size=1, max_size=30))
def test_the_summary_is_of_what_was_written(given_frames: list[Frame]) -> None:
    """The summary at writing and the one read back both describe the frames."""
    segment = encode(given_frames)
    timestamps = [at for each in given_frames for at in each.timestamps]
    assert read_summary(segment.data) == segment.summary
    assert segment.summary.frames == len(given_frames)
    assert segment.summary.ticks == len(timestamps)
    assert segment.summary.samples == sum(len(each.values) for each in given_frames) // 8
    assert (segment.summary.first_timestamp, segment.summary.last_timestamp) == (min(timestamps), max(timestamps))
    assert segment.summary.tenant_ids == {each.tenant_id for each in given_frames}


def test_values_may_be_views_of_a_larger_message() -> None:
    """A memoryview of bytes is taken as it is."""
    plain = frame(values=[1.5, -0.0])
    view = memoryview(b"head" + bytes(plain.values))[4:]
    assert decode(encode([plain._replace(values=view)]).data) == [plain]


def test_a_segment_of_many_blocks_comes_back_whole_and_filtered() -> None:
    """Frames beyond one block are found again, with and without a filter."""
    given_frames = many_frames(1000)
    data = encode(given_frames).data
    assert decode(memoryview(data)) == given_frames
    assert decode(data, [3]) == [each for each in given_frames if each.tenant_id == 3]


def test_any_flipped_byte_is_detected() -> None:
    """Whichever byte of a segment changes, a read says so and returns nothing."""
    data = bytearray(encode(many_frames(3, series=10)).data)
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            data[place] ^= flip
            with pytest.raises(SegmentCorrupt):
                decode(data)
            data[place] ^= flip


def test_a_damaged_block_fails_the_reads_that_need_it_and_no_other() -> None:
    """A filtered read does not open the blocks of other Tenants."""
    given_frames = [each._replace(tenant_id=number) for number, each in enumerate(many_frames(400))]
    data = bytearray(encode(given_frames).data)
    data[-1] ^= 1
    assert decode(data, [0]) == given_frames[:1]
    with pytest.raises(SegmentCorrupt):
        decode(data, [399])


@pytest.mark.parametrize("change", [lambda data: data + b"\0", lambda data: b"\0" + data])
def test_surplus_bytes_are_detected(change: Callable[[bytes], bytes]) -> None:
    """A segment with bytes before or after it is refused."""
    with pytest.raises(SegmentCorrupt):
        decode(change(encode([frame()]).data))


def test_every_cut_is_detected() -> None:
    """A segment that ends early is refused, wherever it ends."""
    data = encode(many_frames(3, series=10)).data
    for length in range(len(data)):
        with pytest.raises(SegmentCorrupt):
            decode(data[:length])


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    """Bytes that are no segment raise the typed error and nothing else."""
    with pytest.raises(SegmentCorrupt):
        decode(data)
    with pytest.raises(SegmentCorrupt):
        read_summary(data)


def forged(counts: tuple[int, int, int], index: Sequence[int], blocks: bytes = b"", claim: int | None = None) -> bytes:
    """A segment with valid checksums around a chosen index; `claim` overstates the size of the compressed index."""
    raw = struct.pack(f"<{len(index)}q", *index)
    shuffled = b"".join(raw[place::8] for place in range(8))
    packed = zstandard.ZstdCompressor().compress(shuffled if claim is None else bytes(claim))
    body = struct.pack("<4I", *counts, len(packed)) + packed
    return b"TSG\x02" + struct.pack("<I", zlib.crc32(body)) + body + blocks


GOOD_BLOCK = zstandard.ZstdCompressor().compress(bytes(8))
GOOD_INDEX = [1, 1, 1, 1, 1, 8, 5, 0, len(GOOD_BLOCK), zlib.crc32(GOOD_BLOCK)]


def test_the_forger_of_these_tests_can_write_a_readable_segment() -> None:
    """The hostile cases fail for the reason that they name, not because the forger is wrong."""
    assert decode(forged((1, 1, 1), GOOD_INDEX, GOOD_BLOCK)) == [Frame(1, 1, 1, 1, (5,), bytes(8))]


@given(st.integers(0, len(GOOD_INDEX) - 1), INT64)
def test_a_forged_index_raises_only_the_typed_error(place: int, value: int) -> None:
    """Any number in an index under a valid checksum is either harmless or refused."""
    index = [*GOOD_INDEX]
    index[place] = value
    data = forged((1, 1, 1), index, GOOD_BLOCK)
    try:
        decode(data)
    except SegmentCorrupt:
        assert place >= 4
    else:
        assert place < 4 or place == 6 or value == GOOD_INDEX[place]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(forged((2**32 - 1, 2**32 - 1, 1), GOOD_INDEX, GOOD_BLOCK), id="counts"),
        pytest.param(forged((0, 0, 0), []), id="nothing"),
        pytest.param(forged((1, 1, 1), [], GOOD_BLOCK, claim=2**24), id="index bomb"),
        pytest.param(
            forged((1, 1, 1), [1, 1, 1, 1, 1, 8, 5, 0, 20, zlib.crc32(b"\x28\xb5\x2f\xfd" + bytes(16))])
            + (b"\x28\xb5\x2f\xfd" + bytes(16)),
            id="block without size",
        ),
        pytest.param(forged((1, 1, 1), [1, 1, 1, 1, 1, 2**40, 5, 0, 8, 0], bytes(8)), id="huge values"),
    ],
)
def test_hostile_headers_are_refused(data: bytes) -> None:
    """Sizes out of bounds, or that contradict each other, are refused before anything is allocated for them."""
    with pytest.raises(SegmentCorrupt):
        decode(data)


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [frame(timestamps=())],
        [frame(values=())],
        [frame(timestamps=(1, 2), values=(1.0, 2.0, 3.0))],
        [frame()._replace(values=bytes(7))],
        [Frame(1, 1, 1, 1, (1,), WORDS)],
        [frame()._replace(seq=-1)],
        [frame()._replace(tenant_id=2**63)],
        [frame(timestamps=(2**63,))],
        [frame()] * (segments.MAX_FRAMES + 1),
    ],
)
def test_what_no_segment_can_hold_is_refused(bad: list[Frame]) -> None:
    """Frames without ticks or values, broken values and numbers beyond 64 bits raise ValueError."""
    with pytest.raises(ValueError, match=MISTAKES):
        encode(bad)
