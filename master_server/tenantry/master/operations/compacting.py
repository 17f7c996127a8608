"""Compaction: segments -> chunks, in small steps that hold the writer up for moments only.

Segments come one a commit. Two things happen to them:

- *Merging* keeps their number small, so that readers have few places to look at: runs of `CompactionPolicy.fan` neighbours of one
  size become one segment, ordered by Tenant. It has the time of receipt of the last of them; each frame keeps its own. If a run
  holds enough ticks of each series already, it becomes chunks at once.
- A *window* of segments, as old or as large as the policy says, becomes chunks of about 120 ticks, a range of Tenants at a time.
  `CompactionWindow` says how far it is, in the transaction of the chunks, so that a reader finds each sample in one place only.

A segment that is damaged is set aside: what can be read of it goes into chunks, the segment stays in the store, and the stream
`notifications` says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tenantry.master.domain.records import NewRecord
from tenantry.master.operations.journal import notification
from tenantry.master.operations.metric_ticks import (
    MAX_CHUNK_SPAN_MS,
    WINDOW_SETTING,
    CompactionWindow,
    load_damaged,
    save_damaged,
)
from tenantry.master.sql.database import Database
from tenantry.master.sql.segments import SegmentRow
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.compaction import TICKS_PER_CHUNK, cut_chunks
from tenantry.master.timeseries.frames import SAMPLE_BYTES, FrameTable
from tenantry.master.timeseries.sealing import TimeseriesCorrupt
from tenantry.master.timeseries.segments import (
    MAX_FRAMES,
    MAX_TICKS,
    decode_range,
    decode_segment,
    encode_segment,
    read_series,
    read_summary,
)
from tenantry.protocol.messages import NotificationLevel

_ALL_TENANTS: Final = (1 << 63) - 1
_SPAN_MS: Final = MAX_CHUNK_SPAN_MS // 2  # of segments by their own time; their first frames may be as much older


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """When segments are merged, and when they become chunks. Bytes are those of decoded values, 8 a sample."""

    window_ms: int = 20 * 60_000
    """Age of the oldest segment at which all become chunks: at one tick in 10 s this gives chunks of 120 ticks."""
    window_bytes: int = 1 << 30
    """Volume at which they do so earlier. They do so too when their chunks would be full, from `step_bytes` on."""
    step_bytes: int = 64 << 20
    """What one step holds in memory, about."""
    fan: int = 32
    """How many neighbours are merged into one."""
    ticks_per_chunk: int = TICKS_PER_CHUNK
    worth_ms: int = 30_000
    """Segments that will be chunks sooner than this are not merged before: nobody would have much of it."""


DEFAULT_POLICY: Final = CompactionPolicy()


class Compactor:
    """The one that compacts a store. Call `step` in one thread at a time."""

    def __init__(self, policy: CompactionPolicy = DEFAULT_POLICY) -> None:
        self._policy = policy
        self._unmergeable: set[int] = set()  # damaged, or too long to join others; the window sorts them out
        self._ranges: tuple[int, list[int]] | None = (
            None  # of the window under way: `through`, last Tenant of each step
        )
        self._series: int | None = None  # how many Tenants and layouts there were when they were counted last

    def step(self, database: Database, now_ms: int) -> bool:
        """Do a small part of what is due; True if there may be more to do now. Raises StoreUnavailable.

        What it reads and encodes happens outside of any write transaction.
        """
        with database.read() as transaction:
            window = CompactionWindow.load(transaction)
            damaged = load_damaged(transaction)
            segments = transaction.segments.listing()
            whole = [one for one in segments if one.id not in damaged]
            full = window is None and self._are_full(transaction, whole)
        if window is not None:
            covered = [one for one in segments if window.covers(one.received_ms)]
            return self._fill(database, covered, window, window, damaged, now_ms)
        segments = whole
        due = self._due(segments, now_ms, full)
        if due:
            begun = CompactionWindow(due[-1].received_ms, 0)
            return self._fill(database, due, begun, None, damaged, now_ms)
        if segments and self._due_in_ms(segments, now_ms) < self._policy.worth_ms:
            return False
        run = find_run([one for one in segments if one.id not in self._unmergeable], self._policy)
        return bool(run) and self._merge(database, run)

    def _due(self, segments: Sequence[SegmentRow], now_ms: int, full: bool) -> Sequence[SegmentRow]:
        """The segments of the next window; empty when it is not time yet."""
        aged = bool(segments) and segments[0].received_ms <= now_ms - self._policy.window_ms
        if not aged and not full and _volume(segments) < self._policy.window_bytes:
            return []
        limit = segments[0].received_ms + _SPAN_MS
        taken: list[SegmentRow] = []
        volume = 0
        for one in segments:
            volume += one.samples * SAMPLE_BYTES
            if taken and (one.received_ms > limit or volume > self._policy.window_bytes):
                break
            taken.append(one)
        return taken

    def _are_full(self, transaction: Transaction, segments: Sequence[SegmentRow]) -> bool:
        """Whether what waits makes chunks of full length. Tenants and layouts are counted where it looks like that, and at first."""
        if _volume(segments) < self._policy.step_bytes:
            return False
        frames = sum(one.frames for one in segments)
        if self._series is None or frames >= self._series * self._policy.ticks_per_chunk:
            self._series = _count_series(transaction, segments)
        return frames >= self._series * self._policy.ticks_per_chunk

    def _due_in_ms(self, segments: Sequence[SegmentRow], now_ms: int) -> float:
        """When these segments will be chunks if more come as they have come so far."""
        age_ms, volume = max(1, now_ms - segments[0].received_ms), max(1, _volume(segments))
        due_at = float(self._policy.window_bytes)
        if self._series is not None:
            frame_bytes = volume / sum(one.frames for one in segments)
            full = self._series * self._policy.ticks_per_chunk * frame_bytes
            due_at = min(due_at, max(full, self._policy.step_bytes))
        return min(self._policy.window_ms - age_ms, age_ms * (due_at / volume - 1))

    # --- merging ----------------------------------------------------------------------------------------------------------

    def _merge(self, database: Database, run: Sequence[SegmentRow]) -> bool:
        tables: list[FrameTable] = []
        ids: list[int] = []
        ticks = 0
        with database.read() as transaction:
            for one in run:
                try:
                    more = decode_segment(transaction.segments.data(one.id))
                except TimeseriesCorrupt:
                    self._unmergeable.add(one.id)
                    return True
                if ticks + len(more.timestamps) > MAX_TICKS:
                    break
                tables.append(more)
                ids.append(one.id)
                ticks += len(more.timestamps)
        if len(ids) < 2:
            self._unmergeable.add(run[0].id)
            return True
        frames = FrameTable.concatenate(tables).by_series()
        if ticks >= frames.count_series() * self._policy.ticks_per_chunk * 3 // 4:
            chunks = list(cut_chunks(frames, self._policy.ticks_per_chunk, MAX_CHUNK_SPAN_MS))
            with database.write() as transaction:
                transaction.chunks.insert(chunks)
                transaction.segments.delete(ids)
            return True
        merged = encode_segment(frames)
        with database.write() as transaction:
            transaction.segments.delete(ids)
            transaction.segments.append(
                merged.data,
                received_ms=run[len(ids) - 1].received_ms,
                frames=merged.summary.frames,
                samples=merged.summary.samples,
                first_ms=merged.summary.first_timestamp,
                last_ms=merged.summary.last_timestamp,
            )
        return True

    # --- windows ----------------------------------------------------------------------------------------------------------

    def _fill(
        self,
        database: Database,
        segments: Sequence[SegmentRow],
        window: CompactionWindow,
        stored: CompactionWindow | None,
        damaged: frozenset[int],
        now_ms: int,
    ) -> bool:
        """Turn the next range of Tenants of the window into chunks."""
        with database.read() as transaction:
            end = next(end for end in self._range_ends(transaction, segments, window) if end > window.tenant_id)
            frames, found = _collect(transaction, segments, window.tenant_id, end, damaged)
        chunks = list(cut_chunks(frames, self._policy.ticks_per_chunk, MAX_CHUNK_SPAN_MS))
        broken = damaged | found.keys()
        with database.write() as transaction:
            if CompactionWindow.load(transaction) != stored:
                return True  # somebody else compacts this store; nothing of this step is written
            transaction.chunks.insert(chunks)
            if found:
                save_damaged(transaction, broken)
                transaction.records.append(
                    [_damage_record(one, found[one.id], now_ms) for one in segments if one.id in found]
                )
            if end < _ALL_TENANTS:
                CompactionWindow(window.through, end).save(transaction)
            else:
                transaction.segments.delete([one.id for one in segments if one.id not in broken])
                transaction.settings.delete(WINDOW_SETTING)
        if end == _ALL_TENANTS:
            self._ranges = None
            self._unmergeable.clear()
        return True

    def _range_ends(
        self, transaction: Transaction, segments: Sequence[SegmentRow], window: CompactionWindow
    ) -> list[int]:
        """Where to cut the Tenants so that each step holds about `step_bytes`; ends with all of them."""
        steps = -(-_volume(segments) // self._policy.step_bytes)
        if steps <= 1:
            return [_ALL_TENANTS]
        if self._ranges is None or self._ranges[0] != window.through:
            tenants = sorted(frozenset[int]().union(*(_tenants_of(transaction, one) for one in segments)))
            cuts = {tenants[len(tenants) * n // steps] for n in range(1, steps)} - {tenants[0]} if tenants else set()
            self._ranges = (window.through, [*(cut - 1 for cut in sorted(cuts)), _ALL_TENANTS])
        return self._ranges[1]


def _volume(segments: Iterable[SegmentRow]) -> int:
    return sum(one.samples for one in segments) * SAMPLE_BYTES


def _count_series(transaction: Transaction, segments: Iterable[SegmentRow]) -> int:
    """How many Tenants and layouts there are in these segments; at least 1."""
    found: set[tuple[int, int]] = set()
    for one in segments:
        with suppress(TimeseriesCorrupt):
            found |= read_series(transaction.segments.data(one.id))
    return max(1, len(found))


def find_run(segments: Sequence[SegmentRow], policy: CompactionPolicy) -> list[SegmentRow]:
    """The neighbours to merge next, smallest first; empty when there are too few of any size.

    A segment's size is the power of `fan` in its number of frames. A run needs `fan` segments of one size, with smaller
    ones between them, so what it becomes is of the next size and every frame is merged a few times at most. A run that
    fills a step is long enough with a quarter of `fan`.
    """
    sizes = [_size(one.frames, policy.fan) for one in segments]
    for size in range(max(sizes, default=-1) + 1):
        run: list[SegmentRow] = []
        frames = samples = of_this_size = 0
        for one, its_size in zip(segments, sizes, strict=True):
            full = bool(run) and (
                (samples + one.samples) * SAMPLE_BYTES > policy.step_bytes
                or frames + one.frames > MAX_FRAMES
                or one.received_ms - run[0].received_ms > _SPAN_MS
                or len(run) >= 8 * policy.fan
            )
            if its_size > size or full:
                if of_this_size >= (max(2, policy.fan // 4) if full else policy.fan):
                    return run
                run, frames, samples, of_this_size = [], 0, 0, 0
            if its_size <= size:
                run.append(one)
                frames += one.frames
                samples += one.samples
                of_this_size += its_size == size
        if of_this_size >= policy.fan:
            return run
    return []


def _size(frames: int, fan: int) -> int:
    size = 0
    while frames >= fan:
        frames //= fan
        size += 1
    return size


def _collect(
    transaction: Transaction, segments: Sequence[SegmentRow], behind: int, end: int, damaged: frozenset[int]
) -> tuple[FrameTable, dict[int, str]]:
    """The frames of Tenants ``behind < tenant_id <= end``, and which segments turned out to be damaged, and how."""
    tables: list[FrameTable] = []
    found: dict[int, str] = {}
    for one in segments:
        data = transaction.segments.data(one.id)
        try:
            tables.append(decode_range(data, behind, end))
        except TimeseriesCorrupt as error:
            tables += _salvage(data, behind, end)
            if one.id not in damaged:
                found[one.id] = str(error)
    return FrameTable.concatenate(tables), found


def _salvage(data: bytes, behind: int, end: int) -> Iterator[FrameTable]:
    """What can be read of a damaged segment, Tenant by Tenant."""
    try:
        tenants = sorted(read_summary(data).tenant_ids)
    except TimeseriesCorrupt:
        return
    for number in tenants:
        if behind < number <= end:
            with suppress(TimeseriesCorrupt):
                yield decode_segment(data, [number])


def _tenants_of(transaction: Transaction, segment: SegmentRow) -> frozenset[int]:
    try:
        return read_summary(transaction.segments.data(segment.id)).tenant_ids
    except TimeseriesCorrupt:
        return frozenset()


def _damage_record(segment: SegmentRow, cause: str, now_ms: int) -> NewRecord:
    text = (
        f"segment {segment.id} of the metrics ({segment.frames} frames, {segment.samples} samples) is damaged: {cause}; "
        "what can be read of it is kept, the segment itself stays in the store"
    )
    return notification(NotificationLevel.ERROR, "compaction", text, now_ms)
