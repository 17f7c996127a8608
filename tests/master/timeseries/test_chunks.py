import struct
import zlib
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tenantry.master.timeseries.chunks import (
    MAX_CHUNK_SAMPLES,
    ChunkCorrupt,
    decode_chunk,
    decode_received_at,
    encode_chunk,
)
from tenantry.master.timeseries.decimals import Float64s
from tenantry.master.timeseries.residuals import Int64s

INT64 = st.integers(-(2**63), 2**63 - 1)
DECIMALS = st.builds(lambda whole, digits: whole / 10**digits, st.integers(-(10**9), 10**9), st.integers(0, 6))
PERCENTAGES = st.builds(lambda tenths: tenths / 10 / 100, st.integers(0, 1000))
EDGES = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7976931348623157e308, 2.0**62, -(2.0**63), 0.1])
KINDS = st.sampled_from([st.floats(), DECIMALS, PERCENTAGES, EDGES, st.just(np.nan), st.integers(0, 2**40).map(float)])


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Int64s, Float64s]:
    """Timestamps in any order, and series each of which is of one kind with an occasional stray value."""
    ticks, series = draw(st.integers(1, 20)), draw(st.integers(1, 6))
    columns = [
        draw(st.lists(draw(KINDS) | EDGES if draw(st.booleans()) else draw(KINDS), min_size=ticks, max_size=ticks))
        for _ in range(series)
    ]
    timestamps = draw(arrays.arrays(np.int64, ticks, elements=INT64))
    return timestamps, np.array(columns, dtype=np.float64).T


def bits(values: Float64s) -> list[list[int]]:
    """The bit patterns, with the one NaN that chunks keep in place of every NaN."""
    canonical: list[list[int]] = np.where(np.isnan(values), np.nan, values).copy().view(np.int64).tolist()
    return canonical


def walk(seed: int, ticks: int = 120) -> tuple[Int64s, Float64s]:
    """A small chunk with every way of coding in it: constant, decimal, counter, gaps, noise."""
    rng = np.random.default_rng(seed)
    gaps = np.round(rng.random(ticks), 2)
    gaps[::7] = np.nan
    columns = [np.full(ticks, 5.0), gaps, np.cumsum(rng.integers(0, 10**6, ticks)).astype(float), rng.random(ticks)]
    return 1_760_000_000_000 + np.arange(ticks) * 10_000, np.stack(columns, axis=1)


def machine(seed: int, ticks: int = 120) -> tuple[Int64s, Float64s]:
    """What psutil reports about one machine with 8 cores every 10 s, in the units and roundings of OpenTelemetry."""
    rng = np.random.default_rng(seed)

    def drift(keep: float, spread: float) -> Float64s:
        state, path = 0.0, []
        for push in rng.normal(0, spread, ticks):
            state = keep * state + push
            path.append(state)
        return np.array(path)

    def ratio(percent: Float64s) -> Float64s:
        return np.round(np.round(np.clip(percent, 0, 100), 1) / 100, 4)

    def pages(size: Float64s) -> Float64s:
        whole: Float64s = np.floor(size / 4096) * 4096
        return whole

    def counter(steps: NDArray[Any], start: float) -> Float64s:
        total: Float64s = np.cumsum(np.floor(steps)) + np.floor(rng.uniform(start / 10, start))
        return total

    busy = np.abs(drift(0.9, 4) + rng.uniform(2, 40))
    columns = [ratio(busy)] + [ratio(np.abs(busy + rng.normal(0, 6, ticks))) for _ in range(8)]
    for share in (0.6, 0.25, 0.02, 0.0, 0.01):  # CPU seconds by mode, in clock ticks of 10 ms
        spent = np.abs(busy / 100 * share * 80 * (1 + rng.normal(0, 0.2, ticks)))
        columns.append(np.round(np.cumsum(spent) + rng.uniform(1e3, 1e6), 2))
    columns += [np.round(np.abs(drift(keep, 0.15) + busy.mean() / 12), 2) for keep in (0.95, 0.99, 0.995)]
    total = 16.0 * 2**30
    used = total * rng.uniform(0.2, 0.8) + np.cumsum(rng.normal(0, 3e6, ticks))
    cached = 4e9 + np.cumsum(rng.exponential(4e5, ticks))
    columns += [
        np.full(ticks, total),
        pages(used),
        pages(cached),
        pages(total - used - cached),
        ratio(used / total * 100),
    ]
    columns += [np.full(ticks, size * 4096.0) for size in (524_288, 0, 77_123)]
    for _ in range(3):  # file systems
        size = float(rng.integers(10**6, 10**8)) * 4096
        filled = pages(
            size * rng.uniform(0.1, 0.9) + np.cumsum(rng.exponential(1e5, ticks) * (rng.random(ticks) < 0.5))
        )
        columns += [np.full(ticks, size), filled, size - filled, ratio(filled / size * 100)]
    for _ in range(4):  # two disks, read and write
        operations = rng.poisson(40, ticks) * (rng.random(ticks) < rng.uniform(0.3, 0.95))
        columns.append(counter(operations * rng.integers(1, 40, ticks), 1e9) * 4096)
        columns += [counter(operations, 1e8), counter(operations * rng.uniform(0, 8, ticks), 1e8)]
    for _ in range(4):  # two network interfaces, in and out
        packets = rng.poisson(np.exp(rng.normal(rng.uniform(1, 7), 0.4, ticks)))
        columns += [counter(packets * rng.uniform(60, 900, ticks), 1e12), counter(packets, 1e9)]
        columns += [np.zeros(ticks), np.full(ticks, float(rng.integers(0, 50)))]
    columns += [
        np.round(250 + drift(0.9, 2)),
        np.round(48 + drift(0.9, 0.6)),
        counter(rng.poisson(busy * 800), 1e10),
    ]
    jitter = rng.integers(0, 4, ticks)
    return 1_760_000_000_000 + np.arange(ticks) * 10_000 + jitter, np.stack(columns, axis=1)


@given(matrices())
@example((np.array([3, 3, 1]), np.array([[0.0], [-0.0], [0.0]])))
@example((np.array([0]), np.array([[np.nan, 1.0]])))
@example((np.array([2**63 - 1, -(2**63)]), np.array([[1e308, np.inf], [-1e308, 0.1]])))
def test_chunks_come_back_bit_for_bit(matrix: tuple[Int64s, Float64s]) -> None:
    """Every timestamp and every bit of every value survives, in the order given; NaN stays absent."""
    timestamps, values = matrix
    again, decoded = decode_chunk(encode_chunk(timestamps, values))
    assert again.tolist() == timestamps.tolist()
    assert bits(decoded) == bits(values)


@given(matrices(), st.data())
def test_a_subset_of_series_equals_the_same_columns_of_all(
    matrix: tuple[Int64s, Float64s], data: st.DataObject
) -> None:
    """Chosen series come back in the order asked for, repeated if asked for twice."""
    timestamps, values = matrix
    chosen = data.draw(st.lists(st.integers(0, values.shape[1] - 1), max_size=8))
    again, decoded = decode_chunk(encode_chunk(timestamps, values), chosen)
    assert again.tolist() == timestamps.tolist()
    assert decoded.shape == (len(timestamps), len(chosen))
    assert bits(decoded) == bits(values[:, chosen])


@given(matrices(), st.data())
def test_times_of_receipt_are_kept(matrix: tuple[Int64s, Float64s], data: st.DataObject) -> None:
    """The time of receipt of each tick comes back without disturbing the values."""
    timestamps, values = matrix
    received_at = data.draw(arrays.arrays(np.int64, len(timestamps), elements=INT64))
    chunk = encode_chunk(timestamps, values, received_at)
    kept = decode_received_at(chunk)
    assert kept is not None
    assert kept.tolist() == received_at.tolist()
    assert bits(decode_chunk(chunk)[1]) == bits(values)
    assert decode_received_at(encode_chunk(timestamps, values)) is None


def test_payloads_of_nan_become_the_one_absent_value() -> None:
    """NaN means absent, whatever its sign and payload."""
    odd = np.array([[0x7FF0000000000001], [-1], [0x7FF8000000000000]]).view(np.float64)
    decoded = decode_chunk(encode_chunk(np.arange(3), odd))[1]
    assert decoded.copy().view(np.int64).tolist() == [[0x7FF8000000000000]] * 3


@pytest.mark.parametrize("seed", range(6))
def test_metrics_of_a_machine_take_at_most_1_2_bytes_a_sample(seed: int) -> None:
    """Two hours of a machine's metrics are stored losslessly within the target, times of receipt included."""
    timestamps, values = machine(seed)
    received_at = timestamps + np.random.default_rng(seed).integers(2, 40, len(timestamps))
    chunk = encode_chunk(timestamps, values, received_at)
    assert bits(decode_chunk(chunk)[1]) == bits(values)
    assert len(chunk) / values.size <= 1.2


def test_percentages_divided_by_a_hundred_are_stored_as_decimals() -> None:
    """A ratio that is one rounding away from its decimal does not fall back to raw bits."""
    values = np.round(np.random.default_rng(1).uniform(0, 100, (120, 50)), 1) / 100
    assert len(encode_chunk(np.arange(120), values)) / values.size < 1.5


def test_constant_series_cost_next_to_nothing() -> None:
    """A series that never changes takes a few bytes a chunk."""
    values = np.tile(np.array([0.0, 17.5, 2.0**34, np.pi, np.inf] * 20), (120, 1))
    assert len(encode_chunk(np.arange(120), values)) / values.size < 0.1


def test_any_flipped_byte_is_detected() -> None:
    """Whichever byte of a chunk changes, a read says so and returns nothing, even if it needs one series only."""
    data = bytearray(encode_chunk(*walk(1)))
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            data[place] ^= flip
            with pytest.raises(ChunkCorrupt):
                decode_chunk(data, [0])
            data[place] ^= flip


def test_every_cut_and_surplus_is_detected() -> None:
    """A chunk that ends early or late is refused."""
    data = encode_chunk(*walk(2, ticks=20))
    for wrong in (*(data[:length] for length in range(len(data))), data + b"\0"):
        with pytest.raises(ChunkCorrupt):
            decode_chunk(wrong)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    """Bytes that are no chunk raise the typed error and nothing else."""
    with pytest.raises(ChunkCorrupt):
        decode_chunk(data)
    with pytest.raises(ChunkCorrupt):
        decode_received_at(data)


def forged(chunk: bytes, at: int, value: int) -> bytes:
    """The chunk with one byte of its body replaced and the checksum made right again."""
    body = bytearray(chunk[8:])
    body[at % len(body)] = value
    return chunk[:4] + struct.pack("<I", zlib.crc32(body)) + body


@given(st.integers(0, 2**16), st.integers(0, 255))
def test_forged_bytes_under_a_valid_checksum_raise_only_the_typed_error(at: int, value: int) -> None:
    """Whatever a forger writes, reading ends in values or in the typed error."""
    data = forged(encode_chunk(*walk(3, ticks=30)), at, value)
    try:
        timestamps, values = decode_chunk(data)
    except ChunkCorrupt:
        return
    assert len(timestamps) == len(values)


@given(st.lists(st.integers(0, 255), min_size=21 * 3, max_size=21 * 3))
def test_forged_descriptions_of_rows_raise_only_the_typed_error(description: list[int]) -> None:
    """Models and scales out of range are refused, those in range give values of the stated shape."""
    packed = zstandard.ZstdCompressor().compress(bytes(description))
    body = struct.pack("<2IB4I", 4, 2, 1, len(packed), 0, 0, 0) + packed
    data = b"TCH\x01" + struct.pack("<I", zlib.crc32(body)) + body
    try:
        timestamps, values = decode_chunk(data)
    except ChunkCorrupt:
        return
    assert timestamps.shape == (4,)
    assert values.shape == (4, 2)


@pytest.mark.parametrize(
    ("ticks", "series", "times"), [(2**32 - 1, 2**32 - 1, 1), (0, 5, 1), (5, 0, 1), (4, 2, 0), (4, 2, 3), (4, 2**19, 1)]
)
def test_hostile_shapes_are_refused(ticks: int, series: int, times: int) -> None:
    """A stated shape is believed only within the bounds and if the stored sizes agree."""
    packed = zstandard.ZstdCompressor().compress(bytes(2**20))
    body = struct.pack("<2IB4I", ticks, series, times, len(packed), 0, 0, 0) + packed
    with pytest.raises(ChunkCorrupt):
        decode_chunk(b"TCH\x01" + struct.pack("<I", zlib.crc32(body)) + body)


@pytest.mark.parametrize("series", [[4], [-1], [0, 99]])
def test_an_unknown_series_is_an_index_error(series: list[int]) -> None:
    """Asking for a series that the chunk does not have is the caller's mistake, not damage."""
    with pytest.raises(IndexError):
        decode_chunk(encode_chunk(*walk(4)), series)


@pytest.mark.parametrize(
    ("timestamps", "values"),
    [
        (np.arange(2), np.zeros((3, 1))),
        (np.arange(3), np.zeros(3)),
        (np.arange(0), np.zeros((0, 4))),
        (np.arange(3), np.zeros((3, 0))),
        (np.arange(2), np.zeros((2, MAX_CHUNK_SAMPLES // 2 + 1))),
    ],
)
def test_what_no_chunk_can_hold_is_refused(timestamps: Int64s, values: Float64s) -> None:
    """Shapes that do not fit together, nothing at all, or too much raise ValueError."""
    with pytest.raises(ValueError, match="chunk"):
        encode_chunk(timestamps, values)
