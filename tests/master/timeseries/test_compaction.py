import struct
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.timeseries import compaction
from tenantry.master.timeseries.chunks import decode_chunk, decode_received_at
from tenantry.master.timeseries.compaction import Chunk, cut_chunks
from tenantry.master.timeseries.frames import Frame, FrameTable

Tick = tuple[int, int, tuple[float, ...]]  # timestamp, received at, values


def frame(tenant_id: int, layout_id: int, received_at: int, ticks: dict[int, tuple[float, ...]]) -> Frame:
    """A frame of these ticks: timestamp -> values."""
    values = b"".join(struct.pack(f"<{len(row)}d", *row) for row in ticks.values())
    return Frame(tenant_id, layout_id, 1, received_at, tuple(ticks), values)


def ticks_of(chunk: Chunk) -> list[Tick]:
    """What a chunk holds, tick by tick."""
    timestamps, values = decode_chunk(chunk.data)
    received_at = decode_received_at(chunk.data)
    assert received_at is not None
    rows = [tuple(row) for row in values.tolist()]
    return list(zip(timestamps.tolist(), received_at.tolist(), rows, strict=True))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Frames of few Tenants and layouts; a layout's number of series is its number."""
    layout_id = draw(st.integers(1, 3))
    value = st.floats(allow_nan=False)
    ticks = draw(
        st.dictionaries(st.integers(0, 50), st.tuples(*[value] * layout_id), min_size=1, max_size=4),
    )
    return frame(draw(st.integers(1, 3)), layout_id, draw(st.integers(0, 1000)), ticks)


@given(st.lists(frames(), max_size=40), st.integers(1, 10))
def test_every_tick_is_in_exactly_one_chunk_in_order(given_frames: list[Frame], ticks_per_chunk: int) -> None:
    """Chunks of a Tenant and layout, put together, are its ticks sorted stably by timestamp."""
    expected: defaultdict[tuple[int, int], list[Tick]] = defaultdict(list)
    for each in given_frames:
        rows = struct.iter_unpack(f"<{each.layout_id}d", each.values)
        for timestamp, row in zip(each.timestamps, rows, strict=True):
            expected[each.tenant_id, each.layout_id].append((timestamp, each.received_at, row))
    stored: defaultdict[tuple[int, int], list[Tick]] = defaultdict(list)
    for chunk in cut_chunks(FrameTable.of_frames(given_frames), ticks_per_chunk):
        stored[chunk.tenant_id, chunk.layout_id] += ticks_of(chunk)
    assert stored == {key: sorted(ticks, key=lambda tick: tick[0]) for key, ticks in expected.items()}


@given(st.lists(frames(), max_size=40), st.integers(1, 10))
def test_the_fields_of_a_chunk_describe_its_ticks(given_frames: list[Frame], ticks_per_chunk: int) -> None:
    """Counts and ranges beside the data are those of the data."""
    for chunk in cut_chunks(FrameTable.of_frames(given_frames), ticks_per_chunk):
        ticks = ticks_of(chunk)
        assert chunk.ticks == len(ticks) <= max(1, ticks_per_chunk * 3 // 2)
        assert chunk.samples == len(ticks) * chunk.layout_id
        assert (chunk.first_timestamp, chunk.last_timestamp) == (ticks[0][0], ticks[-1][0])
        received = [tick[1] for tick in ticks]
        assert (chunk.first_received_at, chunk.last_received_at) == (min(received), max(received))


def test_a_long_run_is_cut_evenly() -> None:
    """500 ticks become four chunks of 125 and not four of 120 and a rest."""
    run = [frame(1, 1, at, {at: (float(at),)}) for at in range(500)]
    assert [chunk.ticks for chunk in cut_chunks(FrameTable.of_frames(run))] == [125] * 4


def test_a_very_wide_layout_is_cut_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk never exceeds what a reader accepts, however many series a layout has."""
    monkeypatch.setattr(compaction, "MAX_CHUNK_SAMPLES", 8)
    wide = frame(1, 1, 5, dict.fromkeys(range(3), (0.0,) * 4))
    assert [chunk.ticks for chunk in cut_chunks(FrameTable.of_frames([wide]))] == [1, 2]


def test_frames_of_one_layout_with_different_widths_are_refused() -> None:
    """A layout has one number of series; anything else would mix up values."""
    with pytest.raises(ValueError, match="differ in their number of series"):
        list(cut_chunks(FrameTable.of_frames([frame(1, 1, 5, {1: (1.0, 2.0)}), frame(1, 1, 6, {2: (1.0,)})])))


@pytest.mark.parametrize("values", [b"", bytes(7), bytes(12)])
def test_values_that_are_no_whole_ticks_are_refused(values: bytes) -> None:
    """Values without a whole float64 for each tick raise ValueError."""
    with pytest.raises(ValueError, match="number of series"):
        list(cut_chunks(FrameTable.of_frames([Frame(1, 1, 1, 5, (1,), values)])))


def test_a_chunk_needs_at_least_one_tick() -> None:
    """A target length below one is the caller's mistake."""
    with pytest.raises(ValueError, match="at least one tick"):
        list(cut_chunks(FrameTable.of_frames([]), 0))
