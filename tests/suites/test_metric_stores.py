import dataclasses

import pytest

from tenantry.master.domain.records import StreamName
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.chunks import ChunkTotals, StoredChunk
from tenantry.master.sql.database import Database
from tenantry.master.sql.segments import SegmentTotals, StoredSegment
from tenantry.master.timeseries.compaction import Chunk
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout
from tests.suites.conftest import NOW, Register


def _layout(*names: str) -> Layout:
    return make_layout([Series(name, "1", SeriesKind.COUNTER, (("a", "ü"), ("b", ""))) for name in names])


def test_a_layout_is_kept_once_under_one_number(database: Database) -> None:
    """Registering again, alone or among new ones, gives the same number; the content comes back whole."""
    first, second, third = _layout("a"), _layout("b", "c"), _layout("d")
    with database.write() as transaction:
        ids = transaction.layouts.insert_missing([first, second, first])
        assert set(ids) == {first.id, second.id} and len(set(ids.values())) == 2
        assert transaction.layouts.insert_missing([]) == {}
    with database.write() as transaction:
        more = transaction.layouts.insert_missing([second, third])
    assert more[second.id] == ids[second.id]
    with database.read() as transaction:
        assert transaction.layouts.all_ids() == {**ids, **more}
        assert transaction.layouts.ids([first.id, b"unknown"]) == {first.id: ids[first.id]}
        loaded = transaction.layouts.load([ids[first.id], more[third.id], 99])
        assert loaded == {ids[first.id]: first, more[third.id]: third}
        assert transaction.layouts.load([]) == {}
        assert transaction.layouts.ids([]) == {}


def _segment(database: Database, received: int, **values: int) -> StoredSegment:
    facts = {"frames": 2, "samples": 20, "first_ms": NOW, "last_ms": NOW + 5, **values}
    data = bytes(range(received % 100))
    with database.write() as transaction:
        transaction.segments.append(data, received_ms=received, **facts)
    return StoredSegment(received_ms=received, data=data, **facts)


def test_segments_are_read_in_the_order_of_receipt(database: Database) -> None:
    """Whenever it was stored: compaction stores what it has merged with the time of the last of them."""
    one, two, three = (_segment(database, NOW + received) for received in (1, 5, 3))
    with database.read() as transaction:
        store = transaction.segments
        assert store.oldest(9) == [one, three, two]
        assert store.oldest(2) == [one, three]
        assert [row.id for row in store.listing(NOW + 2)] == [three.id, two.id]
        assert store.data(three.id) == three.data
        assert store.newest_received_ms() == NOW + 5


def test_segments_are_counted_and_erased(database: Database) -> None:
    """Totals hold what is there, and an empty store has none."""
    nothing = SegmentTotals(0, 0, 0, 0, None, None)
    with database.read() as transaction:
        assert transaction.segments.totals() == nothing
        assert transaction.segments.newest_received_ms() == 0
    stored = [_segment(database, NOW + received, first_ms=NOW + received) for received in (2, 3, 5)]
    with database.write() as transaction:
        octets = sum(len(segment.data) for segment in stored)
        assert transaction.segments.totals() == SegmentTotals(3, 6, 60, octets, NOW + 2, NOW + 5)
        transaction.segments.delete([])
        transaction.segments.delete([stored[0].id, stored[2].id])
    with database.write() as transaction:
        assert transaction.segments.oldest(9) == [stored[1]]
        transaction.segments.delete([stored[1].id, *range(10_000, 80_000)])
        assert transaction.segments.totals() == nothing


def test_a_segment_and_a_chunk_announce_what_they_change(dsn: str) -> None:
    """A segment appends to the metrics; compaction changes nothing that a follower has not seen."""
    seen: list[Changes] = []
    with Database.open(dsn, on_commit=seen.append) as database:
        _segment(database, NOW)
        with database.write() as transaction:
            transaction.chunks.insert([])
            transaction.segments.delete([NOW])
    assert seen == [Changes({}, frozenset({StreamName.METRICS_MASTER}))]


@pytest.fixture
def chunks(database: Database, register: Register) -> list[StoredChunk]:
    """Chunks of three Tenants and two layouts, overlapping in time."""
    tenants = [register(number).id for number in range(3)]
    with database.write() as transaction:
        layouts = list(transaction.layouts.insert_missing([_layout("a"), _layout("b")]).values())
        new = [
            Chunk(
                tenant_id=tenants[number % 3],
                layout_id=layouts[number % 2],
                ticks=3,
                samples=3 + number,
                first_timestamp=NOW + number * 5 % 17,
                last_timestamp=NOW + number * 5 % 17 + number % 4,
                first_received_at=NOW + number,
                last_received_at=NOW + number // 2,
                data=bytes(number),
            )
            for number in range(40)
        ]
        transaction.chunks.insert(new)
    with database.read() as transaction:
        stored = transaction.chunks.find(None, None, None, None, False, None, 100)
    plain = [Chunk(**{field.name: getattr(one, field.name) for field in dataclasses.fields(Chunk)}) for one in stored]
    assert sorted(plain, key=lambda chunk: chunk.samples) == new
    return stored


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("window", [(None, None), (NOW + 4, None), (None, NOW + 6), (NOW + 5, NOW + 9)])
def test_chunks_are_found_page_by_page(
    database: Database, chunks: list[StoredChunk], window: tuple[int | None, int | None], newest_first: bool
) -> None:
    """Pages put together are the chunks that overlap the window, each once, in the order that readers merge by."""
    start, end = window
    tenants, layouts = sorted({chunk.tenant_id for chunk in chunks}), sorted({chunk.layout_id for chunk in chunks})

    def key(chunk: StoredChunk) -> tuple[int, int]:
        return (chunk.last_timestamp if newest_first else chunk.first_timestamp, chunk.id)

    for tenant_ids, layout_ids in ((None, None), (tenants[:1], None), (None, layouts[1:]), (tenants[1:], layouts[:1])):
        expected = [
            chunk
            for chunk in sorted(chunks, key=key, reverse=newest_first)
            if (tenant_ids is None or chunk.tenant_id in tenant_ids)
            and (layout_ids is None or chunk.layout_id in layout_ids)
            and (start is None or chunk.last_timestamp >= start)
            and (end is None or chunk.first_timestamp < end)
        ]
        found: list[StoredChunk] = []
        with database.read() as transaction:
            while page := transaction.chunks.find(
                tenant_ids, layout_ids, start, end, newest_first, key(found[-1]) if found else None, 4
            ):
                found += page
        assert found == expected


def test_chunks_are_read_in_the_order_of_receipt(database: Database, chunks: list[StoredChunk]) -> None:
    """A follower gets each chunk whose newest tick came after its place, once."""
    ordered = sorted(chunks, key=lambda chunk: (chunk.last_received_at, chunk.id))
    found: list[StoredChunk] = []
    place = (0, 0)
    with database.read() as transaction:
        while page := transaction.chunks.received_after(place[0], 3, after_id=place[1]):
            found += page
            place = (page[-1].last_received_at, page[-1].id)
        later = transaction.chunks.received_after(NOW + 5, 99)
    assert found == ordered
    assert later == [chunk for chunk in ordered if chunk.last_received_at > NOW + 5]


def test_chunks_are_erased_in_steps_and_counted(database: Database, chunks: list[StoredChunk]) -> None:
    """Retention erases what ended before, oldest first, a step at a time, and the totals follow."""

    def totals(left: list[StoredChunk]) -> ChunkTotals:
        return ChunkTotals(
            sum(chunk.samples for chunk in left),
            sum(len(chunk.data) for chunk in left),
            min((chunk.first_timestamp for chunk in left), default=None),
            max((chunk.last_timestamp for chunk in left), default=None),
        )

    before = NOW + 8
    doomed = [chunk for chunk in chunks if chunk.last_timestamp < before]
    steps = []
    with database.write() as transaction:
        assert transaction.chunks.totals() == totals(chunks)
        while erased := transaction.chunks.erase_before(before, 4):
            steps.append(erased)
        assert sum(steps) == len(doomed) and max(steps) == 4
        assert transaction.chunks.totals() == totals([chunk for chunk in chunks if chunk not in doomed])
        transaction.chunks.erase_before(NOW + 99, 99)
        assert transaction.chunks.totals() == totals([])
