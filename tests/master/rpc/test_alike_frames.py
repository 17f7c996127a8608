"""Frames that are read as one table are read as each of them would be alone, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import pack_values
from tenantry.protocol.messages import MetricFrame
from tenantry.transport.records import decode_frame, encode_frame
from tenantry.transport.wire_values import MAX_TIMESTAMP_MS

ID = b"layout of sixtee"
OTHER = b"another of sixte"

times = st.integers(0, MAX_TIMESTAMP_MS) | st.integers(1_700_000_000_000, 1_900_000_000_000)
values = st.lists(st.floats(allow_nan=False), min_size=2, max_size=2).map(pack_values)
frames = st.builds(lambda at, data: MetricFrame(ID, (at,), data), times, values)


def record(at: int = 1_700_000_000_000, *data: float, layout: bytes = ID) -> bytes:
    """A frame of one tick as its protobuf says it."""
    return encode_frame(MetricFrame(layout, (at,), pack_values(data or (1.0, 2.0))))


@given(st.lists(frames, min_size=1, max_size=20))
def test_a_table_is_its_rows(given_frames: list[MetricFrame]) -> None:
    """Records of one length give the times and values that they give one by one."""
    for length in {len(encode_frame(frame)) for frame in given_frames}:
        alike = [frame for frame in given_frames if len(encode_frame(frame)) == length]
        found = read_alike_frames([encode_frame(frame) for frame in alike])
        if found is None:
            assert 0 in {at for frame in alike for at in frame.timestamps_ms}
            continue
        assert found.layout_id == ID
        assert found.timestamps_ms == [frame.timestamps_ms[0] for frame in alike]
        assert found.values == b"".join(frame.values for frame in alike)


@given(st.lists(frames, min_size=1, max_size=4), st.data())
def test_whatever_bytes_differ_the_table_says_what_the_records_say(
    given_frames: list[MetricFrame], data: st.DataObject
) -> None:
    """With bytes of one record changed at random, what is accepted still reads as each record alone; the rest is left to others."""
    records = [encode_frame(frame._replace(timestamps_ms=(1_700_000_000_000,))) for frame in given_frames]
    broken = bytearray(records[-1])
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    records[-1] = bytes(broken)
    found = read_alike_frames(records)
    if found is None:
        return
    alone = [decode_frame(one) for one in records]
    assert {one.layout_id for one in alone} == {found.layout_id}
    assert [one.timestamps_ms for one in alone] == [(at,) for at in found.timestamps_ms]
    assert b"".join(one.values for one in alone) == found.values


def test_the_usual_is_accepted() -> None:
    """What daemons send is what this is for."""
    found = read_alike_frames([record(), record(1_700_000_000_001, 3.0, 4.0)])
    assert found is not None
    assert found.timestamps_ms == [1_700_000_000_000, 1_700_000_000_001]


USUAL = record()
TIME, DATA = USUAL[18:26], USUAL[26:]


@pytest.mark.parametrize(
    "other",
    [
        record(layout=OTHER),
        encode_frame(MetricFrame(ID, (1, 2, 3, 4, 5, 6), pack_values((1.0, 2.0)))),
        USUAL[:18] + DATA + TIME,
        USUAL[:19] + bytes([5]) + USUAL[20:],
        USUAL[:27] + bytes([USUAL[27] - 2]) + USUAL[28:],
    ],
    ids=["another layout", "several ticks", "values first", "another length of the time", "bytes behind the values"],
)
def test_what_is_not_alike_is_left_to_others(other: bytes) -> None:
    """One record of another shape, and the table is not made; neither from records that all have that shape."""
    assert len(other) == len(USUAL)
    assert read_alike_frames([USUAL, other]) is None
    alone = read_alike_frames([other])
    assert alone is None or (alone.layout_id, other) == (OTHER, record(layout=OTHER))


@pytest.mark.parametrize("short", [b"", USUAL[:10], USUAL[:20], USUAL[:26], USUAL[:27], USUAL[:-1]])
def test_what_is_cut_short_is_left_to_others(short: bytes) -> None:
    """Wherever a record ends too early, nothing is read behind its end."""
    assert read_alike_frames([short]) is None


def test_a_time_out_of_range_is_left_to_others() -> None:
    """The year 10000 is refused by who reads the record alone."""
    far = encode_frame(MetricFrame(ID, (MAX_TIMESTAMP_MS + 1,), pack_values((1.0, 2.0))))
    assert read_alike_frames([far]) is None
    with pytest.raises(FieldInvalid):
        decode_frame(far)
