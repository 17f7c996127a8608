"""Samples in the order in which they were stored, forward from a place or the last ones."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.master.operations.metric_ticks import (
    END_OF_COMMIT,
    MAX_CHUNK_SPAN_MS,
    Arrival,
    ChunkPicker,
    DamageObserver,
    LayoutCache,
    Sample,
    Tick,
    TickReader,
    Wanted,
    by_arrival,
    ignore_damage,
    samples_of,
)
from tenantry.master.sql.chunks import StoredChunk
from tenantry.master.sql.segments import SegmentRow
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.layouts import Layout

CHUNKS_A_STEP: Final = 64
FIRST_WIDTH_MS: Final = 1_000
MAX_WIDTH_MS: Final = 1 << 42
MAX_LOOKS: Final = 4
"""After that many looks that find nothing the caller gets its thread back."""
ENOUGH_SAMPLES: Final = 10_000
"""What one look into the store should bring: more is cut off by the width of the next look, not by this one."""


def end_of_commit(received_at: int) -> Arrival:
    """The place behind everything that was received until then."""
    return Arrival(received_at, END_OF_COMMIT, 0, 0, 0, 0)


def newest_arrival(transaction: Transaction) -> Arrival:
    """The place behind everything that is stored now."""
    newest = max(transaction.segments.newest_received_ms(), transaction.chunks.newest_received_ms())
    return end_of_commit(newest)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Ticks between two places, ordered; ``until`` is the second one, ``width_ms`` a good width for the next look."""

    ticks: list[Tick]
    after: Arrival
    until: Arrival
    width_ms: int
    more: bool
    layouts: Mapping[int, Layout]

    def samples(self) -> Iterator[Sample]:
        """The samples behind the first place."""
        return (one for one in samples_of(self.ticks, self.layouts) if one.arrival > self.after)


class Seen(NamedTuple):
    """How far a look came, a good width for the next one, and whether there is more."""

    until: Arrival
    width_ms: int
    more: bool


def read_arrivals(
    transaction: Transaction,
    wanted: Wanted,
    after: Arrival,
    width_ms: int,
    layouts: LayoutCache,
    on_damage: DamageObserver = ignore_damage,
) -> Arrived:
    """The next samples behind ``after``: all of some whole commits, looked for in widths that begin with ``width_ms``."""
    reader = TickReader(transaction, wanted, layouts, on_damage)
    ticks: list[Tick] = []

    def look(first_ms: int, last_ms: int) -> int:
        ticks.extend(tick for tick in _between(reader, first_ms, last_ms) if by_arrival(tick)[:4] >= after[:4])
        return sum(tick.present for tick in ticks)

    seen = look_behind(transaction, after, width_ms, look)
    ticks.sort(key=by_arrival)
    known = layouts.get(transaction, {tick.layout_id for tick in ticks})
    return Arrived(ticks, after, seen.until, seen.width_ms, seen.more, known)


def look_behind(transaction: Transaction, after: Arrival, width_ms: int, look: Callable[[int, int], int]) -> Seen:
    """Look behind ``after`` until something is found: ``look`` gives how many samples were received between two times."""
    newest = newest_arrival(transaction).received_at
    start = after.received_at + (after.tenant_id == END_OF_COMMIT)
    until, present, looks = after, 0, 0
    while start <= newest and not present and looks < MAX_LOOKS:
        looks += 1
        end = min(newest, start + width_ms)
        present = look(start, end)
        until, start = end_of_commit(end), end + 1
        if present > ENOUGH_SAMPLES:
            width_ms = max(1, width_ms // 4)
        elif present < ENOUGH_SAMPLES // 8:
            width_ms = min(width_ms * 4, MAX_WIDTH_MS)
    return Seen(until, width_ms, start <= newest)


def read_last_arrivals(
    transaction: Transaction,
    wanted: Wanted,
    count: int,
    layouts: LayoutCache,
    on_damage: DamageObserver = ignore_damage,
) -> list[Sample]:
    """The ``count`` samples that were stored last, in the order of storing."""
    if count < 1:
        return []
    reader = TickReader(transaction, wanted, layouts, on_damage)
    high, width = newest_arrival(transaction).received_at, FIRST_WIDTH_MS
    ticks: list[Tick] = []
    while high >= 0 and sum(tick.present for tick in ticks) < count:
        ticks += _between(reader, high - width, high)
        high -= width + 1
        width *= 4
    ticks.sort(key=by_arrival)
    known = layouts.get(transaction, {tick.layout_id for tick in ticks})
    return list(deque(samples_of(ticks, known), maxlen=count))


def _between(reader: TickReader, first_ms: int, last_ms: int) -> Iterator[Tick]:
    """Wanted ticks with ``first_ms <= received_at <= last_ms``, in no order."""
    pick = within(first_ms, last_ms)
    for stored in stored_between(reader, first_ms, last_ms):
        if isinstance(stored, StoredChunk):
            yield from reader.from_chunk(stored, pick)
        else:
            yield from reader.from_segment(stored, lambda _, received_at: first_ms <= received_at <= last_ms)


def within(first_ms: int, last_ms: int) -> ChunkPicker:
    """Picks what was received between these times, both included."""

    def pick(_: NDArray[np.int64], received_at: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.flatnonzero((received_at >= first_ms) & (received_at <= last_ms))

    return pick


def stored_between(reader: TickReader, first_ms: int, last_ms: int) -> Iterator[SegmentRow | StoredChunk]:
    """The segments and chunks that may have something that was received between these times, both included."""
    for segment in reader.segments(max(first_ms, 0)):
        yield segment
        if segment.received_ms >= last_ms:
            break  # a merged segment has earlier frames as well, but those behind it have none
    after: tuple[int, int] | None = None
    while True:
        step = reader.transaction.chunks.received_between(
            first_ms, last_ms, reader.wanted.tenant_ids, after, CHUNKS_A_STEP, max_span_ms=MAX_CHUNK_SPAN_MS
        )
        yield from step
        if len(step) < CHUNKS_A_STEP:
            return
        after = (step[-1].last_received_at, step[-1].id)
