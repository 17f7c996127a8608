from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.timeseries.chunk_batches import decode_alike
from tenantry.master.timeseries.chunks import ChunkCorrupt, decode_chunk, decode_received_at, encode_chunk

NUMBERS = st.floats() | st.integers(-(10**9), 10**9).map(float) | st.integers(0, 1000).map(lambda n: n / 10 / 100)


@st.composite
def chunks_alike(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Chunks of one shape with whatever in them, and some of their series in any order."""
    ticks, series, timed = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.booleans())
    encoded = []
    for _ in range(draw(st.integers(1, 5))):
        cells = draw(st.lists(NUMBERS | st.just(float("nan")), min_size=ticks * series, max_size=ticks * series))
        times = np.array(draw(st.lists(st.integers(0, 2**40), min_size=ticks, max_size=ticks)), np.int64)
        values = np.array(cells, np.float64).reshape(ticks, series)
        encoded.append(encode_chunk(times, values, times + draw(st.integers(0, 999)) if timed else None))
    return encoded, draw(st.lists(st.integers(0, series - 1), unique=True))


@given(given_chunks=chunks_alike())
def test_together_as_one_by_one(given_chunks: tuple[list[bytes], list[int]]) -> None:
    """Chunks decoded together give what each gives alone, bit by bit, whole and for some of their series."""
    data, series = given_chunks
    for chosen in (None, np.array(series, np.int32)):
        timestamps, received, values = decode_alike(data, chosen, received=True)
        for place, one in enumerate(data):
            expected_times, expected = decode_chunk(one, None if chosen is None else series)
            assert timestamps[place].tolist() == expected_times.tolist()
            assert values[place].tobytes() == np.ascontiguousarray(expected.T).tobytes()
            alone: Any = decode_received_at(one)
            assert received is not None
            assert received[place].tolist() == (expected_times if alone is None else alone).tolist()


def test_damage_of_one_is_damage_of_all() -> None:
    """A damaged byte in any of the chunks is found, and chunks of two shapes are not taken for alike."""
    times = np.arange(30)
    data = [encode_chunk(times, np.full((30, 2), float(n))) for n in range(3)]
    for byte in range(0, len(data[1]), 7):
        damaged = bytearray(data[1])
        damaged[byte] ^= 1
        with pytest.raises(ChunkCorrupt):
            decode_alike([data[0], bytes(damaged), data[2]])
    with pytest.raises(ChunkCorrupt, match="alike"):
        decode_alike([data[0], encode_chunk(times[:20], np.zeros((20, 2)))])
    with pytest.raises(IndexError):
        decode_alike(data, np.array([2], np.int32))
