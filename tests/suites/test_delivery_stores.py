import dataclasses
from collections.abc import Callable

import pytest

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.records import Gap, NewGap, NewRecord, StreamName
from tenantry.master.domain.tenants import Tenant
from tenantry.master.sql import marks
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.master.sql.mark_moves import count_moves
from tenantry.master.sql.marks import MarkMove, MarksMoved
from tenantry.master.sql.records import StreamSummary
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.messages import LossReason, Stream
from tests.suites.conftest import NOW, Register, new_tenant

EPOCH = b"e" * 16
OTHER_EPOCH = b"f" * 16
CHAIN = b"c" * 32


@pytest.fixture
def tenant(register: Register) -> Tenant:
    """A registered Tenant."""
    return register(1)


def _record(tenant_id: int | None, timestamp: int = NOW, **values: object) -> NewRecord:
    facts: dict[str, object] = {"stream": StreamName.ALERTS_MASTER, "fields": {"n": timestamp - NOW}}
    return NewRecord(timestamp_ms=timestamp, received_ms=NOW + 1, tenant_id=tenant_id, **{**facts, **values})  # type: ignore[arg-type]


def _seen(*tenant_ids: int) -> Sight:
    return Sight(frozenset(tenant_ids), main=False)


# --- marks ----------------------------------------------------------------------------------------------------------------


def test_an_epoch_begins_at_zero_and_moves(database: Database, tenant: Tenant) -> None:
    """Opening makes the marks of all streams; moving one leaves the others."""
    with database.write() as transaction:
        transaction.marks.open(tenant.id, EPOCH, 1)
        assert transaction.marks.of(tenant.id, EPOCH) == dict.fromkeys(Stream, HighWater())
        transaction.marks.advance([MarkMove(tenant.id, Stream.ALERTS, EPOCH, 1, 0, 7, CHAIN)])
        transaction.marks.advance([])
    with database.write() as transaction:
        transaction.marks.open(tenant.id, EPOCH, 2)
        again = transaction.marks.of(tenant.id, EPOCH)
    assert again == {**dict.fromkeys(Stream, HighWater()), Stream.ALERTS: HighWater(7, CHAIN)}
    with database.read() as transaction:
        assert transaction.marks.of(tenant.id, EPOCH) == again
        assert transaction.marks.of(tenant.id, OTHER_EPOCH) == {}


def test_epochs_come_newest_first(database: Database, tenant: Tenant) -> None:
    """A Tenant's spools are ordered by when they first came, whatever was opened again since."""
    with database.write() as transaction:
        transaction.marks.open(tenant.id, OTHER_EPOCH, 1)
        transaction.marks.open(tenant.id, EPOCH, 2)
        transaction.marks.open(tenant.id, OTHER_EPOCH, 3)
        assert transaction.marks.epochs(tenant.id) == [EPOCH, OTHER_EPOCH]
        assert transaction.marks.epochs(tenant.id + 1) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"from_seq": 1},
        {"incarnation": 1},
        {"incarnation": 3},
        {"epoch": OTHER_EPOCH},
        {"tenant_id": 99},
    ],
    ids=str,
)
def test_a_mark_that_is_elsewhere_stops_all(database: Database, register: Register, wrong: dict[str, object]) -> None:
    """One move that does not fit (another place, a fenced link, an unknown epoch) undoes the whole commit."""
    tenants = [register(number) for number in range(3)]
    with database.write() as transaction:
        for tenant in tenants:
            transaction.marks.open(tenant.id, EPOCH, 2)
    moves = [MarkMove(tenant.id, Stream.METRICS, EPOCH, 2, 0, 5, CHAIN) for tenant in tenants]
    moves[1] = moves[1]._replace(**wrong)  # type: ignore[arg-type]
    with pytest.raises(MarksMoved), database.write() as transaction:
        transaction.marks.advance(moves)
    with database.read() as transaction:
        for tenant in tenants:
            assert transaction.marks.of(tenant.id, EPOCH)[Stream.METRICS] == HighWater()


def test_a_newer_link_fences_every_epoch_of_its_tenant(database: Database, register: Register) -> None:
    """An older session can move no mark of the Tenant any more, neither in its own epoch; other Tenants go on."""
    tenant, other = register(1), register(2)
    with database.write() as transaction:
        transaction.marks.open(tenant.id, EPOCH, 1)
        transaction.marks.open(other.id, EPOCH, 1)
        transaction.marks.open(tenant.id, OTHER_EPOCH, 2)
    with pytest.raises(MarksMoved), database.write() as transaction:
        transaction.marks.advance([MarkMove(tenant.id, Stream.METRICS, EPOCH, 1, 0, 1, CHAIN)])
    with database.write() as transaction:
        transaction.marks.advance([MarkMove(other.id, Stream.METRICS, EPOCH, 1, 0, 1, CHAIN)])
        transaction.marks.advance([MarkMove(tenant.id, Stream.METRICS, OTHER_EPOCH, 2, 0, 1, CHAIN)])


def test_thousands_of_marks_move_in_one_commit(database: Database, register: Register) -> None:
    """A full group commit moves each mark exactly as asked."""
    ids = [register(number).id for number in range(30)]
    epochs = [bytes([number]) * 16 for number in range(30)]
    with database.write() as transaction:
        for tenant_id in ids:
            for epoch in epochs:
                transaction.marks.open(tenant_id, epoch, 1)
    moves = [
        MarkMove(tenant_id, stream, epoch, 1, 0, tenant_id * 1000 + number, bytes([number]) * 32)
        for tenant_id in ids
        for number, epoch in enumerate(epochs)
        for stream in Stream
    ]
    with database.write() as transaction:
        transaction.marks.advance(moves)
    with database.read() as transaction:
        found = {(tenant_id, epoch): transaction.marks.of(tenant_id, epoch) for tenant_id in ids for epoch in epochs}
    for move in moves:
        assert found[move.tenant_id, move.epoch][move.stream] == HighWater(move.to_seq, move.chain)


def _move(tenant_id: int, before: int, after: int, stream: Stream = Stream.METRICS) -> MarkMove:
    return MarkMove(tenant_id, stream, EPOCH, 1, before, after, bytes([after]) * 32)


def _fail_after(*actions: Callable[[], None]) -> None:
    for action in actions:
        action()
    raise ValueError("undone")


def test_marks_are_where_the_last_life_of_the_master_left_them(dsn: str) -> None:
    """Moves that are only in the log are read by whoever opens the store next; what does not follow on them is refused."""
    with Database.open(dsn) as database, database.write() as transaction:
        tenant, other = (transaction.tenants.insert(new_tenant(number)).id for number in (1, 2))
        for each in (tenant, other):
            transaction.marks.open(each, EPOCH, 1)
        transaction.marks.advance([_move(tenant, 0, 3), _move(other, 0, 9), _move(tenant, 0, 4, Stream.ALERTS)])
        transaction.marks.advance([_move(tenant, 3, 7)])
    with Database.open(dsn) as database:
        with pytest.raises(MarksMoved), database.write() as transaction:
            transaction.marks.advance([_move(tenant, 3, 8)])
        with database.write() as transaction:
            transaction.marks.advance([_move(tenant, 7, 8)])
        with database.read() as transaction:
            assert {stream: mark.last_seq for stream, mark in transaction.marks.of(tenant, EPOCH).items()} == {
                Stream.METRICS: 8,
                Stream.ALERTS: 4,
                Stream.NOTIFICATIONS: 0,
            }
            assert transaction.marks.of(other, EPOCH)[Stream.METRICS] == HighWater(9, bytes([9]) * 32)


def test_what_is_undone_moves_no_mark(database: Database, tenant: Tenant) -> None:
    """A savepoint or a transaction that fails leaves the marks, and the newest link, as they were before it."""
    with database.write() as transaction:
        transaction.marks.open(tenant.id, EPOCH, 1)
        transaction.marks.advance([_move(tenant.id, 0, 1)])
        with pytest.raises(ValueError, match="undone"), transaction.savepoint():
            _fail_after(
                lambda: transaction.marks.advance([_move(tenant.id, 1, 2)]),
                lambda: transaction.marks.open(tenant.id, OTHER_EPOCH, 2),
            )
        assert transaction.marks.of(tenant.id, OTHER_EPOCH) == {}
        transaction.marks.advance([_move(tenant.id, 1, 3)])
    with pytest.raises(ValueError, match="undone"), database.write() as transaction:
        _fail_after(lambda: transaction.marks.advance([_move(tenant.id, 3, 4)]))
    with database.write() as transaction:
        transaction.marks.advance([_move(tenant.id, 3, 5)])
    with database.read() as transaction:
        assert transaction.marks.of(tenant.id, EPOCH)[Stream.METRICS] == HighWater(5, bytes([5]) * 32)


def test_a_first_look_within_what_is_undone_is_no_knowledge(database: Database, tenant: Tenant) -> None:
    """A spool whose opening is undone has no marks that could move."""
    with database.write() as transaction:
        with pytest.raises(ValueError, match="undone"), transaction.savepoint():
            _fail_after(lambda: transaction.marks.open(tenant.id, EPOCH, 1))
        with pytest.raises(MarksMoved), transaction.savepoint():
            transaction.marks.advance([_move(tenant.id, 0, 1)])


def test_the_table_follows_when_the_log_is_long(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bringing the table up to date changes no mark and empties the log, also where the Master dies right after."""
    monkeypatch.setattr(marks, "LONG_LOG", 40)
    expected = {}
    with Database.open(dsn) as database:
        with database.write() as transaction:
            ids = [transaction.tenants.insert(new_tenant(number)).id for number in range(3)]
            for tenant_id in ids:
                transaction.marks.open(tenant_id, EPOCH, 1)
        for seq in range(20):
            with database.write() as transaction:
                transaction.marks.advance([_move(tenant_id, seq, seq + 1) for tenant_id in ids])
                logged = count_moves(transaction.connection)
            with database.read() as transaction:
                left = count_moves(transaction.connection)
                expected = {tenant_id: transaction.marks.of(tenant_id, EPOCH) for tenant_id in ids}
                assert left == (0 if logged == 3 * marks.MOVES_A_TENANT else logged)
                assert {mark[Stream.METRICS].last_seq for mark in expected.values()} == {seq + 1}
    with Database.open(dsn) as database, database.write() as transaction:
        assert {tenant_id: transaction.marks.of(tenant_id, EPOCH) for tenant_id in ids} == expected
        transaction.marks.advance([_move(tenant_id, 20, 21) for tenant_id in ids])


# --- records --------------------------------------------------------------------------------------------------------------


def test_a_record_is_stored_once_by_its_key(dsn: str) -> None:
    """The second net: even without marks the same Tenant, stream, epoch and seq is stored, counted and announced once."""
    seen: list[Changes] = []
    with Database.open(dsn, on_commit=seen.append) as database:
        with database.write() as transaction:
            tenant = transaction.tenants.insert(new_tenant(1))
        keyed = _record(tenant.id, epoch=EPOCH, seq=1)
        with database.write() as transaction:
            first = transaction.records.append([keyed, dataclasses.replace(keyed, seq=2)])
        seen.clear()
        with database.write() as transaction:
            assert transaction.records.append([keyed]) == first
            assert transaction.records.append([]) == first
        assert not seen
        others = [
            dataclasses.replace(keyed, epoch=OTHER_EPOCH),
            dataclasses.replace(keyed, stream=StreamName.NOTIFICATIONS_MASTER),
            keyed,
        ]
        with database.write() as transaction:
            assert transaction.records.append(others) > first
        assert [change.streams for change in seen] == [{StreamName.ALERTS_MASTER, StreamName.NOTIFICATIONS_MASTER}]
        with database.read() as transaction:
            assert transaction.records.summary(StreamName.ALERTS_MASTER).records == 3
            assert len(transaction.records.after(StreamName.ALERTS_MASTER, 0, 10)) == 3


def test_records_without_a_key_are_all_stored(database: Database, tenant: Tenant) -> None:
    """What the Master itself writes has no key, and equal records are two records."""
    with database.write() as transaction:
        transaction.records.append([_record(None), _record(None), _record(tenant.id), _record(tenant.id)])
    with database.read() as transaction:
        assert len(transaction.records.after(StreamName.ALERTS_MASTER, 0, 10)) == 4


def test_fields_come_back_as_they_were(database: Database) -> None:
    """Every JSON value survives, whatever characters it holds."""
    fields = {
        "text": "\x00\x1b'\"\u2028\U0001f600\\",
        "list": [1, 2.5, None, True],
        "nested": {"a": {"b": []}},
        "": -1e300,
    }
    with database.write() as transaction:
        transaction.records.append([_record(None, fields=fields)])
    with database.read() as transaction:
        assert transaction.records.after(StreamName.ALERTS_MASTER, 0, 1)[0].fields == fields


def test_following_sees_each_record_once_in_the_order_of_storing(database: Database, register: Register) -> None:
    """From any position on, a follower gets what came later, of the stream and the Tenants that it wants."""
    ids = [register(number).id for number in range(3)]
    with database.write() as transaction:
        for number in range(30):
            stream = StreamName.ALERTS_MASTER if number % 3 else StreamName.ALERTS
            transaction.records.append([_record(ids[number % 3], NOW - number, stream=stream)])
    with database.read() as transaction:
        store = transaction.records
        everything = store.after(StreamName.ALERTS_MASTER, 0, 100)
        assert [record.fields["n"] for record in everything] == [-number for number in range(30) if number % 3]
        assert [record.position for record in everything] == sorted(record.position for record in everything)
        middle = everything[9].position
        assert store.after(StreamName.ALERTS_MASTER, middle, 100) == everything[10:]
        assert store.after(StreamName.ALERTS_MASTER, middle, 3) == everything[10:13]
        only = [record for record in everything if record.tenant_id == ids[1]]
        assert store.after(StreamName.ALERTS_MASTER, 0, 100, _seen(ids[1])) == only
        assert store.after(StreamName.ALERTS_MASTER, 0, 100, _seen()) == []
        assert store.last(StreamName.ALERTS_MASTER, 4) == everything[-4:]
        assert store.last(StreamName.ALERTS_MASTER, 4, _seen(ids[1])) == only[-4:]
        assert store.newest_position(StreamName.ALERTS_MASTER) == everything[-1].position
        assert store.newest_position(StreamName.AUDIT_MESSAGES) == 0


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("window", [(None, None), (NOW + 2, None), (None, NOW + 3), (NOW + 1, NOW + 4), (NOW + 9, NOW)])
def test_pages_of_records_are_ordered_by_time(
    database: Database, register: Register, window: tuple[int | None, int | None], ascending: bool
) -> None:
    """Pages put together are all records of the window, each once, by event time and then position."""
    ids = [register(number).id for number in range(3)]
    with database.write() as transaction:
        transaction.records.append([_record(ids[number % 3], NOW + number * 7 % 5) for number in range(40)])
    start, end = window
    with database.read() as transaction:
        everything = transaction.records.after(StreamName.ALERTS_MASTER, 0, 100)
        for tenant_ids in (None, ids[:2], list(range(1_000, 2_000)) + ids[1:]):
            sight = EVERYTHING if tenant_ids is None else _seen(*tenant_ids)
            expected = [
                record
                for record in everything
                if (tenant_ids is None or record.tenant_id in tenant_ids)
                and (start is None or record.timestamp_ms >= start)
                and (end is None or record.timestamp_ms < end)
            ]
            expected.sort(key=lambda record: (record.timestamp_ms, record.position), reverse=not ascending)
            found: list[object] = []
            after = None
            while page := transaction.records.page(StreamName.ALERTS_MASTER, sight, start, end, ascending, after, 7):
                found += page
                after = (page[-1].timestamp_ms, page[-1].position)
            assert found == expected


def test_a_summary_follows_storing_and_erasing(database: Database) -> None:
    """Numbers, payload and event times of a stream are right after every change, also when it is empty again."""
    empty = StreamSummary(0, 0, None, None)
    with database.write() as transaction:
        assert transaction.records.summary(StreamName.ALERTS_MASTER) == empty
        transaction.records.append([_record(None, NOW + number, fields={"a": "bc"}) for number in range(10)])
        transaction.records.append([_record(None, NOW, stream=StreamName.ALERTS)])
    with database.write() as transaction:
        assert transaction.records.summary(StreamName.ALERTS_MASTER) == StreamSummary(10, 100, NOW, NOW + 9)
        assert transaction.records.erase_before(StreamName.ALERTS_MASTER, NOW + 5, 3) == 3
        assert transaction.records.summary(StreamName.ALERTS_MASTER) == StreamSummary(7, 70, NOW + 3, NOW + 9)
        assert transaction.records.erase_before(StreamName.ALERTS_MASTER, NOW + 5, 3) == 2
        assert transaction.records.erase_before(StreamName.ALERTS_MASTER, NOW + 5, 3) == 0
    with database.write() as transaction:
        last = transaction.records.newest_position(StreamName.ALERTS)
        assert transaction.records.erase_before(StreamName.ALERTS_MASTER, NOW + 99, 99) == 5
        assert transaction.records.summary(StreamName.ALERTS_MASTER) == empty
        assert transaction.records.summary(StreamName.ALERTS).records == 1
        transaction.records.erase_before(StreamName.ALERTS, NOW + 99, 99)
    with database.write() as transaction:
        assert transaction.records.append([_record(None)]) > last


# --- gaps -----------------------------------------------------------------------------------------------------------------


def _gap(
    tenant_id: int, first: int = 1, stream: Stream = Stream.METRICS, epoch: bytes = EPOCH, detail: str = ""
) -> NewGap:
    return NewGap(tenant_id, stream, epoch, first, first + 4, LossReason.SPOOL_FULL, detail, NOW)


def test_a_hole_is_written_down_once(database: Database, tenant: Tenant) -> None:
    """A loss that is declared again after a lost acknowledgement stays one line of the ledger."""
    with database.write() as transaction:
        transaction.gaps.append([_gap(tenant.id), _gap(tenant.id, 10), _gap(tenant.id, stream=Stream.ALERTS)])
        transaction.gaps.append([_gap(tenant.id, detail="again"), _gap(tenant.id, epoch=OTHER_EPOCH)])
        transaction.gaps.append([])
    with database.read() as transaction:
        found = transaction.gaps.of_tenant(tenant.id)
    assert [(gap.stream, gap.epoch, gap.first_seq) for gap in found] == [
        (Stream.METRICS, EPOCH, 1),
        (Stream.METRICS, EPOCH, 10),
        (Stream.ALERTS, EPOCH, 1),
        (Stream.METRICS, OTHER_EPOCH, 1),
    ]
    assert found[0] == Gap(**dataclasses.asdict(_gap(tenant.id)), id=found[0].id)


def test_pages_of_the_ledger_come_newest_first(database: Database, register: Register) -> None:
    """Pages put together are all holes of the Tenants asked for, newest first."""
    ids = [register(number).id for number in range(2)]
    with database.write() as transaction:
        transaction.gaps.append([_gap(ids[number % 2], number * 10) for number in range(20)])
    with database.read() as transaction:
        for tenant_ids, firsts in ((None, range(20)), ([ids[1]], range(1, 20, 2)), ([], range(0))):
            found: list[Gap] = []
            while page := transaction.gaps.page(tenant_ids, found[-1].id if found else None, 3):
                found += page
            assert [gap.first_seq for gap in found] == [number * 10 for number in reversed(firsts)]
