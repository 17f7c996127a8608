"""Commits, compaction, reads and tails in any order: each sample is found once, in order, at any moment."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from tenantry.master.operations import following, metric_arrivals, metric_reading
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.operations.following import Tail, open_tail
from tenantry.master.operations.metric_arrivals import end_of_commit
from tenantry.master.operations.metric_columns import ColumnTail
from tenantry.master.operations.metric_reading import MetricQuery, read_samples
from tenantry.master.operations.metric_ticks import Arrival, LayoutCache, Moment, Sample, Wanted
from tenantry.master.operations.places import read_arrival
from tenantry.master.operations.reading import ReadRecord, RecordFilter, make_filter
from tenantry.master.sql.database import Database
from tests.master.operations.stored_metrics import LAYOUTS, Row, StoredModel, commit, frame, guid_of

HOUR = 3_600_000
NAMES = sorted({one.name for layout in LAYOUTS.values() for one in layout.series})

times = st.one_of(st.integers(0, 40), st.integers(0, 5).map(lambda hours: hours * HOUR // 2))
values = st.one_of(st.just(math.nan), st.integers(0, 9).map(float), st.floats(allow_nan=False))
wanted = st.builds(
    Wanted,
    st.one_of(st.none(), st.frozensets(st.integers(1, 4))),
    st.frozensets(st.sampled_from([*NAMES, "no.such.metric"]), max_size=2),
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, int, list[Row]]:
    """Tenant, layout and rows of a frame; the same event time may come twice."""
    layout_id = draw(st.sampled_from(sorted(LAYOUTS)))
    row = st.tuples(*[values] * len(LAYOUTS[layout_id].series))
    return draw(st.integers(1, 3)), layout_id, draw(st.lists(st.tuples(times, row), min_size=1, max_size=4))


Value = tuple[tuple[int, ...], int, float]
"""Where a sample is by arrival, its series and what it is."""


def filter_of(chosen: Wanted) -> RecordFilter:
    """The same as a filter of a request."""
    return make_filter("metricsMaster", [guid_of(number) for number in chosen.tenant_ids or ()], metrics=chosen.metrics)


def bits(sample: Sample) -> tuple[object, ...]:
    """Everything about a sample; -0.0 and 0.0 differ."""
    return (*sample.moment, sample.series, sample.value.hex())


class History(RuleBasedStateMachine):
    database: Database  # with the Tenants; each example empties the rest, which costs less than a store of its own

    def __init__(self) -> None:
        super().__init__()
        empty(self.database)
        self.model = StoredModel()
        self.now = 1_000
        self.layouts = LayoutCache()
        self.compactor = Compactor(
            CompactionPolicy(window_ms=20_000, window_bytes=4_000, step_bytes=200, fan=2, ticks_per_chunk=3, worth_ms=0)
        )
        self.tails: list[tuple[Wanted, Tail, list[Sample], list[ReadRecord]]] = []

        self.cursors: dict[int, str] = {}
        self.columns: list[tuple[frozenset[str], ColumnTail, list[Value]]] = []

    @rule(content=st.lists(rows(), min_size=1, max_size=4), later=st.integers(1, 5_000))
    def commit_frames(self, content: list[tuple[int, int, list[Row]]], later: int) -> None:
        self.now += later
        frames = [frame(tenant, layout, self.now, ticks) for tenant, layout, ticks in content]
        commit(self.database, frames)
        self.model.add(frames)

    @rule(steps=st.integers(1, 6), later=st.sampled_from([0, 0, 30_000]))
    def compact(self, steps: int, later: int) -> None:
        for _ in range(steps):
            if not self.compactor.step(self.database, self.now + later):
                return

    @rule()
    def restart_compactor(self) -> None:
        self.compactor = Compactor(self.compactor._policy)

    @rule(
        chosen=wanted,
        start=st.one_of(st.none(), times),
        end=st.one_of(st.none(), times),
        ascending=st.booleans(),
        size=st.integers(1, 20),
        between=st.integers(0, 2),
    )
    def read_pages(
        self, chosen: Wanted, start: int | None, end: int | None, ascending: bool, size: int, between: int
    ) -> None:
        query = MetricQuery(chosen, start, end, ascending)
        found: list[Sample] = []
        after: Moment | None = None
        while True:
            with self.database.read() as transaction:
                page = read_samples(transaction, query, after, size, self.layouts)
            found += page
            if len(page) < size:
                break
            after = page[-1].moment
            for _ in range(between):
                self.compactor.step(self.database, self.now)
        expected = self.model.by_moment(chosen, start, end, ascending=ascending)
        assert [bits(one) for one in found] == [bits(one) for one in expected]

    @rule(chosen=wanted.filter(lambda one: one.tenant_ids is None or one.tenant_ids), backlog=st.integers(0, 12))
    def begin_tail(self, chosen: Wanted, backlog: int) -> None:
        stored = self.model.by_arrival(chosen)
        tail = open_tail(filter_of(chosen), "", backlog, self.layouts)
        skipped = stored[: max(0, len(stored) - backlog)]
        self.tails.append((chosen, tail, skipped, []))
        self._advance(len(self.tails) - 1)

    @precondition(lambda self: self.tails)
    @rule(data=st.data())
    def advance_tail(self, data: st.DataObject) -> None:
        self._advance(data.draw(st.integers(0, len(self.tails) - 1)))

    @precondition(lambda self: self.tails)
    @rule(data=st.data())
    def reconnect_tail(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.tails) - 1))
        chosen, _, skipped, seen = self.tails[number]
        cursor = self.cursors[number] if data.draw(st.booleans()) or not seen else seen[-1].cursor
        self.tails[number] = (chosen, open_tail(filter_of(chosen), cursor, 0, self.layouts), skipped, seen)

    @rule(metrics=st.sets(st.sampled_from(NAMES), min_size=1).map(frozenset))
    def begin_columns(self, metrics: frozenset[str]) -> None:
        self.columns.append((metrics, ColumnTail(metrics, end_of_commit(0), self.layouts), []))

    @rule()
    def advance_columns(self) -> None:
        for number in range(len(self.columns)):
            self._advance_columns(number)

    def _advance_columns(self, number: int) -> bool:
        metrics, tail, seen = self.columns[number]
        with self.database.read() as transaction:
            step = tail.advance(transaction)
        found = []
        for one in step.ticks:
            indexes = [index for index, series in enumerate(LAYOUTS[one.layout_id].series) if series.name in metrics]
            places = zip(one.received_at.tolist(), one.tenant_ids.tolist(), one.timestamps.tolist(), strict=True)
            for repeat, ((received_at, tenant_id, timestamp), row) in enumerate(
                zip(places, one.values.tolist(), strict=True)
            ):
                order = (received_at, tenant_id, one.layout_id, timestamp, repeat)
                found += [(order, index, value) for index, value in zip(indexes, row, strict=True) if value == value]
        seen += [(order[:-1], index, value) for order, index, value in sorted(found)]
        return step.more

    def _advance(self, number: int) -> bool:
        _, tail, _, seen = self.tails[number]
        with self.database.read() as transaction:
            step = tail.advance(transaction)
        seen += step.records
        self.cursors[number] = step.cursor
        return step.more

    @invariant()
    def nothing_is_seen_twice(self) -> None:
        for _, _, _, seen in self.tails:
            places = [read_arrival(one.cursor) for one in seen]
            assert places == sorted(set(places))

    def teardown(self) -> None:
        for place, (metrics, _, values) in enumerate(self.columns):
            while self._advance_columns(place):
                pass
            assert values == [
                (one.arrival[:4], one.index, one.value) for one in self.model.by_arrival(Wanted(None, metrics))
            ]
        for number, (chosen, _, skipped, seen) in enumerate(self.tails):
            while self._advance(number):
                pass
            expected = self.model.by_arrival(chosen)[len(skipped) :]
            assert [read_arrival(one.cursor) for one in seen] == [one.arrival for one in expected]
            assert [(one.fields["metric"], one.fields["value"]) for one in seen] == [
                (one.series.name, one.value) for one in expected
            ]


def empty(database: Database) -> None:
    """Take all metrics and settings out of a store."""
    with database.write() as transaction:
        for table in ("chunks", "segments", "settings", "totals"):
            transaction.chunks._connection.execute(text(f"DELETE FROM {table}"))


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that every loop goes round several times."""
    monkeypatch.setattr(following, "RECORDS_A_STEP", 5)
    monkeypatch.setattr(metric_arrivals, "CHUNKS_A_STEP", 2)
    monkeypatch.setattr(metric_arrivals, "ENOUGH_SAMPLES", 16)
    monkeypatch.setattr(metric_reading, "CHUNKS_A_STEP", 2)


@pytest.mark.usefixtures("small_steps")
def test_each_sample_is_found_once_in_order_at_any_moment(either_database: Database) -> None:
    """Any sequence of commits, compaction steps, pages and tails gives exactly what was stored."""
    History.database = either_database
    run_state_machine_as_test(History, settings=settings(max_examples=30, stateful_step_count=25))


def test_places_sort_as_their_samples_do() -> None:
    """A place at the end of a commit is behind everything in it and before the next commit."""
    end = metric_arrivals.end_of_commit(5)
    assert Arrival(5, 1 << 40, 9, 1 << 50, 3, 4) < end < Arrival(6, 0, 0, 0, 0, 0)
