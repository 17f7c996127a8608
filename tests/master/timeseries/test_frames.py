"""Tables of frames: columns, sorting and choosing give what they would give frame by frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.timeseries.frames import Frame, FrameColumns, FrameTable


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Frames of few Tenants and layouts, of one to three ticks of one to three series."""
    ticks = draw(st.lists(st.integers(0, 100), min_size=1, max_size=3))
    size = 8 * len(ticks) * draw(st.integers(1, 3))
    values = draw(st.binary(min_size=size, max_size=size))
    tenant_id, layout_id, seq = (draw(st.integers(1, 3)) for _ in range(3))
    return Frame(tenant_id, layout_id, seq, draw(st.integers(0, 9)), tuple(ticks), values)


@given(st.lists(frames(), max_size=20), st.data())
def test_a_table_is_its_frames(given_frames: list[Frame], data: st.DataObject) -> None:
    """As they are, put together from parts, in any other order, several times and not at all."""
    table = FrameTable.of_frames(given_frames)
    assert len(table) == len(given_frames) and table.frames() == given_frames
    cut = data.draw(st.integers(0, len(given_frames)))
    parts = [FrameTable.of_frames(given_frames[:cut]), FrameTable.of_frames(given_frames[cut:])]
    assert FrameTable.concatenate(parts).frames() == given_frames
    places = data.draw(st.lists(st.integers(0, len(given_frames) - 1), max_size=20)) if given_frames else []
    taken = table.take(np.array(places, dtype=np.int64))
    assert taken.frames() == [given_frames[place] for place in places]


@given(st.lists(frames(), max_size=20))
def test_by_series_keeps_the_order_of_each(given_frames: list[Frame]) -> None:
    """Sorted by Tenant and layout, stably, and the series are counted."""
    table = FrameTable.of_frames(given_frames).by_series()
    assert table.frames() == sorted(given_frames, key=lambda frame: (frame.tenant_id, frame.layout_id))
    assert table.count_series() == len({(frame.tenant_id, frame.layout_id) for frame in given_frames})


@given(st.lists(frames(), max_size=20), st.sets(st.integers(1, 3)))
def test_chosen_frames_have_the_values_that_are_given(given_frames: list[Frame], tenants: set[int]) -> None:
    """What is left keeps its order."""
    chosen = [frame for frame in given_frames if frame.tenant_id in tenants]
    wanted = np.array([frame.tenant_id in tenants for frame in given_frames], dtype=np.bool_)
    values = b"".join(frame.values for frame in chosen)
    assert FrameTable.of_frames(given_frames).choose(wanted, values).frames() == chosen


def test_columns_are_frames_of_one_tick() -> None:
    """Side by side or one by one is the same."""
    columns = FrameColumns(7, 5, [1, 2], [3, 4], [10, 11], bytes(range(32)))
    assert FrameTable.of_columns(columns).frames() == [
        Frame(1, 7, 3, 5, (10,), bytes(range(16))),
        Frame(2, 7, 4, 5, (11,), bytes(range(16, 32))),
    ]


@pytest.mark.parametrize(
    "columns",
    [
        FrameColumns(1, 1, [1, 2], [1, 2], [1, 2], bytes(17)),
        FrameColumns(1, 1, [1, 2], [1], [1, 2], bytes(16)),
        FrameColumns(1, 1, [1, 2], [1, 2], [1], bytes(16)),
        FrameColumns(1, 1, [2**63], [1], [1], bytes(8)),
        FrameColumns(1, 1, [1], [-1], [1], bytes(8)),
    ],
    ids=["values of two sizes", "too few numbers", "too few times", "beyond 64 bits", "negative"],
)
def test_columns_that_do_not_fit_together_are_refused(columns: FrameColumns) -> None:
    """They raise ValueError and no table comes of them."""
    with pytest.raises(ValueError, match=r"columns are|64 bits"):
        FrameTable.of_columns(columns)
