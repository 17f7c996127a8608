"""Samples by event time, a page at a time, out of chunks and of segments that compaction has not reached.

A page costs what overlaps it, not what is stored: segments and chunks are visited in the order of their first (or last) event
time, and the visit ends where none of the rest can hold one of the samples that are still needed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenantry.master.operations.metric_ticks import (
    MAX_CHUNK_SPAN_MS,
    DamageObserver,
    LayoutCache,
    Moment,
    Sample,
    Tick,
    TickReader,
    Wanted,
    by_moment,
    ignore_damage,
    samples_of,
)
from tenantry.master.sql.transaction import Transaction

CHUNKS_A_STEP: Final = 64
MAX_TIME: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """Which samples: event time from ``start_ms`` to before ``end_ms``, oldest or newest first."""

    wanted: Wanted = field(default_factory=Wanted)
    start_ms: int | None = None
    end_ms: int | None = None
    ascending: bool = False


def read_samples(
    transaction: Transaction,
    query: MetricQuery,
    after: Moment | None,
    limit: int,
    layouts: LayoutCache,
    on_damage: DamageObserver = ignore_damage,
) -> list[Sample]:
    """At most ``limit`` samples behind ``after``, ordered by `Moment`; each sample stored is in exactly one page."""
    if limit < 1 or (query.wanted.tenant_ids is not None and not query.wanted.tenant_ids):
        return []
    reader = TickReader(transaction, query.wanted, layouts, on_damage)
    nearest = _Nearest(query, after, limit)
    if query.ascending:
        _visit_chunks(reader, nearest)
        _visit_segments(reader, nearest)
    else:
        _visit_segments(reader, nearest)
        _visit_chunks(reader, nearest)
    return nearest.samples(reader)


class _Nearest:
    """The wanted ticks that come first in the order of the query, as far as they have been seen."""

    def __init__(self, query: MetricQuery, after: Moment | None, limit: int) -> None:
        self.ascending = query.ascending
        self._after = after
        self._limit = limit
        self._ticks: list[Tick] = []
        self._present = 0
        self._sorted = 0  # how many ticks the last narrowing left
        self.low = query.start_ms if query.start_ms is not None else -MAX_TIME
        self.high = query.end_ms - 1 if query.end_ms is not None else MAX_TIME
        if after is not None and self.ascending:
            self.low = max(self.low, after.timestamp)
        elif after is not None:
            self.high = min(self.high, after.timestamp)

    def accepts(self, timestamp: int, _received_at: int) -> bool:
        """Whether a tick of this event time can be on the page."""
        return self.low <= timestamp <= self.high

    def pick(self, timestamps: NDArray[np.int64], _received_at: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of a chunk that can be on the page; timestamps rise."""
        first = int(np.searchsorted(timestamps, self.low, "left"))
        end = int(np.searchsorted(timestamps, self.high, "right"))
        return np.arange(first, end)

    def add(self, ticks: Iterable[Tick]) -> None:
        """Take what is behind the page before; narrow `low` and `high` once there is enough."""
        for tick in ticks:
            side = self._side(tick)
            if side < 0:
                continue
            self._ticks.append(tick)
            # Those equal to the last tick of the page before may turn out to be on it: they do not count.
            self._present += tick.present if side else 0
            if self._present >= 4 * self._limit:
                self.narrow()

    def narrow(self) -> None:
        """Drop ticks that cannot be on the page because enough others come before them."""
        if self._present < self._limit or len(self._ticks) == self._sorted:
            return
        self._ticks.sort(key=by_moment, reverse=not self.ascending)
        present = kept = 0
        while present < self._limit:
            tick = self._ticks[kept]
            present += tick.present if self._side(tick) else 0
            kept += 1
        last = self._ticks[kept - 1]
        while kept < len(self._ticks) and self._ticks[kept][:4] == last[:4]:
            present += self._ticks[kept].present
            kept += 1
        del self._ticks[kept:]
        self._sorted = kept
        self._present = present
        if self.ascending:
            self.high = min(self.high, last.timestamp)
        else:
            self.low = max(self.low, last.timestamp)

    def samples(self, reader: TickReader) -> list[Sample]:
        """The page."""
        self.narrow()
        layouts = reader.layouts.get(reader.transaction, {tick.layout_id for tick in self._ticks})
        samples = list(samples_of(sorted(self._ticks, key=by_moment), layouts))
        if not self.ascending:
            samples.reverse()
        if self._after is not None:
            after = self._after
            samples = [one for one in samples if (one.moment > after if self.ascending else one.moment < after)]
        return samples[: self._limit]

    def _side(self, tick: Tick) -> int:
        """1 behind the page before, 0 equal to its last tick, -1 on it."""
        if self._after is None:
            return 1
        place, after = tick[:4], self._after[:4]
        if place == after:
            return 0
        return 1 if (place > after) == self.ascending else -1


def _visit_segments(reader: TickReader, nearest: _Nearest) -> None:
    segments = reader.segments()
    if nearest.ascending:
        segments.sort(key=lambda one: one.first_ms)
    else:
        segments.sort(key=lambda one: -one.last_ms)
    for one in segments:
        if one.first_ms <= nearest.high and one.last_ms >= nearest.low:
            nearest.add(reader.from_segment(one, nearest.accepts))
            nearest.narrow()


def _visit_chunks(reader: TickReader, nearest: _Nearest) -> None:
    after: tuple[int, int] | None = None
    while True:
        step = reader.transaction.chunks.find(
            reader.wanted.tenant_ids,
            None,
            nearest.low,
            nearest.high + 1,
            not nearest.ascending,
            after,
            CHUNKS_A_STEP,
            max_span_ms=MAX_CHUNK_SPAN_MS,
        )
        for one in step:
            if one.first_timestamp <= nearest.high and one.last_timestamp >= nearest.low:
                nearest.add(reader.from_chunk(one, nearest.pick))
        nearest.narrow()
        if len(step) < CHUNKS_A_STEP:
            return
        last = step[-1]
        after = (last.first_timestamp if nearest.ascending else last.last_timestamp, last.id)
