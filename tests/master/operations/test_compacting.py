import random

import pytest

from tenantry.master.domain.records import StreamName
from tenantry.master.operations.compacting import CompactionPolicy, Compactor, find_run
from tenantry.master.operations.metric_reading import MetricQuery, read_samples
from tenantry.master.operations.metric_ticks import MAX_CHUNK_SPAN_MS, LayoutCache, Sample
from tenantry.master.sql.database import Database
from tenantry.master.sql.segments import SegmentRow
from tenantry.master.timeseries.compaction import cut_chunks
from tenantry.master.timeseries.frames import FrameTable
from tests.master.operations.stored_metrics import commit, frame

MINUTE = 60_000
ALL = MetricQuery(ascending=True)


def read_all(database: Database) -> list[Sample]:
    """Every sample that the store gives."""
    with database.read() as transaction:
        return read_samples(transaction, ALL, None, 1_000_000, LayoutCache())


def run_to_end(compactor: Compactor, database: Database, now_ms: int) -> int:
    """Steps until nothing is due; gives how many."""
    steps = 0
    while compactor.step(database, now_ms):
        steps += 1
        assert steps < 1_000, "compaction never ends"
    return steps


def damage(database: Database, segment_id: int, place: int) -> None:
    """Flip a byte of a stored segment."""
    with database.write() as transaction:
        data = bytearray(transaction.segments.data(segment_id))
        row = next(one for one in transaction.segments.listing() if one.id == segment_id)
        data[place] ^= 0xFF
        transaction.segments.delete([segment_id])
        transaction.segments.append(
            bytes(data),
            received_ms=row.received_ms,
            frames=row.frames,
            samples=row.samples,
            first_ms=row.first_ms,
            last_ms=row.last_ms,
        )


def test_ticks_of_twenty_minutes_become_whole_chunks(database: Database) -> None:
    """One tick in 10 s for 20 minutes gives one chunk of 120 ticks a Tenant and layout, and no segment is left."""
    for tick in range(120):
        at = tick * 10_000
        commit(database, [frame(tenant, 2, at + 5, [(at, (1.0, 2.0, float(tick)))]) for tenant in (1, 2, 3)])
    before = read_all(database)
    run_to_end(Compactor(), database, 21 * MINUTE)
    with database.read() as transaction:
        assert transaction.segments.listing() == []
        assert [one.ticks for one in transaction.chunks.find(None, None, None, None, False, None, 100)] == [120] * 3
    assert read_all(database) == before and len(before) == 120 * 3 * 3


def test_young_segments_wait_but_are_merged(database: Database) -> None:
    """Before the window is due, many segments become few and nothing is a chunk."""
    for tick in range(200):
        commit(database, [frame(1 + tick % 3, 1, tick + 1, [(tick, (float(tick),))])])
    before = read_all(database)
    run_to_end(Compactor(CompactionPolicy(fan=8)), database, 1_000)
    with database.read() as transaction:
        assert len(transaction.segments.listing()) <= 8 * 3
        assert transaction.chunks.totals().samples == 0
    assert read_all(database) == before


def test_a_run_with_enough_ticks_becomes_chunks_at_once(database: Database) -> None:
    """Few Tenants at a high rate need no window: their chunks are full after one merge."""
    for tick in range(128):
        commit(database, [frame(1, 1, tick + 1, [(tick, (float(tick),))])])
    before = read_all(database)
    run_to_end(Compactor(), database, 1_000)
    with database.read() as transaction:
        assert [one.ticks for one in transaction.chunks.find(None, None, None, None, False, None, 9)] == [128]
    assert read_all(database) == before


def test_a_window_is_filled_in_steps_that_a_restart_may_interrupt(database: Database) -> None:
    """With small steps Tenants follow one after the other; a new compactor goes on where the old one was."""
    for tick in range(40):
        commit(database, [frame(tenant, 2, tick + 1, [(tick, (1.0, 2.0, 3.0))]) for tenant in (1, 2, 3)])
    before = read_all(database)
    policy = CompactionPolicy(window_ms=0, step_bytes=1_000)
    steps = 0
    while Compactor(policy).step(database, 1_000):
        assert read_all(database) == before
        steps += 1
    assert steps == 3
    with database.read() as transaction:
        assert transaction.segments.listing() == []
        assert transaction.settings.get("compaction.window") is None


@pytest.mark.parametrize("place", [10, -3], ids=["index", "values"])
def test_a_damaged_segment_is_set_aside_and_said(database: Database, place: int) -> None:
    """It stays in the store, hinders nobody, and `notifications` has one record about it."""
    for tick in range(8):
        commit(database, [frame(1, 1, tick + 1, [(tick, (float(tick),))])])
    with database.read() as transaction:
        broken = transaction.segments.listing()[3]
    damage(database, broken.id, place)
    compactor = Compactor(CompactionPolicy(window_ms=100, fan=2))
    for now in (10, 1_000, 2_000):
        run_to_end(compactor, database, now)
    with database.read() as transaction:
        assert [one.received_ms for one in transaction.segments.listing()] == [broken.received_ms]
        said = transaction.records.after(StreamName.NOTIFICATIONS, 0, 10)
    assert len(said) == 1 and "damaged" in str(said[0].fields["text"])
    assert [one.timestamp for one in read_all(database)] == [0, 1, 2, 4, 5, 6, 7]


def test_what_can_be_read_of_a_damaged_segment_is_kept(database: Database) -> None:
    """Damage in one Tenant's block leaves the other Tenants' frames of the segment."""
    noise = random.Random(1)
    rows = [(n, (noise.random(), noise.random(), noise.random())) for n in range(6_000)]
    commit(database, [frame(tenant, 2, 5, rows) for tenant in (1, 2, 3)])
    with database.read() as transaction:
        segment = transaction.segments.listing()[0]
    damage(database, segment.id, -10)
    run_to_end(Compactor(CompactionPolicy(window_ms=0)), database, 1_000)
    kept = read_all(database)
    assert {one.tenant_id for one in kept} == {1, 2} and len(kept) == 2 * 3 * 6_000


def test_what_makes_full_chunks_waits_no_longer(database: Database) -> None:
    """Many ticks in a short time become chunks when these are full, and not as short ones before."""
    compactor = Compactor(CompactionPolicy(step_bytes=1, ticks_per_chunk=5))
    for tick in range(9):
        commit(database, [frame(tenant, 1, tick + 1, [(tick, (1.0,))]) for tenant in (1, 2)])
        run_to_end(compactor, database, 10)
    with database.read() as transaction:
        assert [one.ticks for one in transaction.chunks.find(None, None, None, None, False, None, 100)] == [5, 5]
        assert len(transaction.segments.listing()) == 4
    # A third Tenant was not there when they were counted: what it brings makes nobody's chunks full.
    commit(database, [frame(3, 1, 100 + at, [(at, (1.0,))]) for at in range(2)])
    run_to_end(compactor, database, 110)
    with database.read() as transaction:
        assert len(transaction.segments.listing()) == 5


def test_what_will_be_chunks_soon_is_not_merged_before(database: Database) -> None:
    """By age, by volume, or because its chunks will be full; what waits for longer is merged."""

    def segments(policy: CompactionPolicy, now_ms: int) -> int:
        compactor = Compactor(policy)
        run_to_end(compactor, database, now_ms)
        with database.read() as transaction:
            return len(transaction.segments.listing())

    for tick in range(8):
        commit(database, [frame(1, 1, 1_000 * (tick + 1), [(tick, (1.0,))])])
    assert segments(CompactionPolicy(fan=2, window_ms=20_000, worth_ms=15_000), 8_000) == 8
    assert segments(CompactionPolicy(fan=2, window_bytes=8 * 16, worth_ms=15_000), 8_000) == 8
    assert segments(CompactionPolicy(fan=2, step_bytes=1, ticks_per_chunk=16, worth_ms=15_000), 8_000) == 8
    assert segments(CompactionPolicy(fan=2, window_ms=60_000, worth_ms=15_000), 8_000) < 8


def test_no_chunk_spans_more_than_readers_assume() -> None:
    """Ticks that lie days apart do not share a chunk, not even when one frame brings them."""
    day = 24 * 3_600_000
    frames = [frame(1, 1, 5, [(n * day, (1.0,)), (n * day + 1, (2.0,))]) for n in range(3)]
    frames.append(frame(1, 1, 6, [(5, (3.0,)), (9 * day, (4.0,))]))
    chunks = list(cut_chunks(FrameTable.of_frames(frames), 120, MAX_CHUNK_SPAN_MS))
    assert sum(one.ticks for one in chunks) == 8
    assert all(one.last_timestamp - one.first_timestamp <= MAX_CHUNK_SPAN_MS for one in chunks)


def test_runs_are_neighbours_of_one_size() -> None:
    """A large segment between small ones is not merged with them again and again."""
    policy = CompactionPolicy(fan=4)
    rows = [SegmentRow(n, frames, frames, 0, 0) for n, frames in enumerate([1, 1, 100, 1, 1, 1, 1, 1])]
    assert [one.id for one in find_run(rows, policy)] == [3, 4, 5, 6, 7]
    assert find_run(rows[:6], policy) == []
    assert find_run([], policy) == []


def test_a_merge_stays_below_the_size_of_a_step() -> None:
    """What would not fit into memory is left for the next run."""
    policy = CompactionPolicy(fan=4, step_bytes=8 * 1_000)
    rows = [SegmentRow(n, 1, 300, 0, 0) for n in range(12)]
    assert [one.id for one in find_run(rows, policy)] == [0, 1, 2]
