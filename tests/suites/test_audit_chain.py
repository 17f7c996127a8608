"""The chain over the audit, as it is kept on both databases."""

import contextlib

import pytest

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.operations.retaining import Retainer
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.database import Database
from tenantry.master.sql.engines import make_engine, parse_dsn
from tenantry.master.sql.transaction import Transaction
from tenantry.master.sql.wall import INSIDE
from tenantry.protocol.audit_chain import CHAIN_START, Head, Walker, extend, place_of
from tenantry.protocol.failures import StoreUnavailable
from tests.suites.conftest import NOW, Register

DAY_MS = 24 * 3600 * 1000


def audited(number: int, tenant_id: int | None = None, at_ms: int = NOW) -> NewRecord:
    """A record of the audit."""
    return NewRecord(
        StreamName.AUDIT_MESSAGES,
        at_ms,
        at_ms,
        tenant_id,
        {"n": number, "action": "ä\u2028\"'", "deep": {"b": 1, "a": []}},
    )


def walk(database: Database) -> Walker:
    """Recompute the whole chain."""
    with database.read() as transaction:
        state = transaction.audit.state()
        walker = Walker(state.anchor.sequence, state.anchor.hash)
        links = transaction.audit.read(state.anchor.sequence, state.tip.sequence, 100_000)
        walker.take(links.records, links.hashes)
        assert links.positions == sorted(set(links.positions))
        walker.end(state.tip.sequence, state.tip.hash)
    return walker


def test_every_audit_record_is_a_link(database: Database, register: Register) -> None:
    """Records of the audit are numbered without a gap and hashed with their predecessor; others stand beside the chain."""
    tenant = register(1)
    with database.write() as transaction:
        transaction.records.append([audited(1), NewRecord(StreamName.ALERTS, NOW, NOW, tenant.id, {"b": 1, "a": 2})])
        transaction.records.append([audited(2, tenant.id)])
    with database.write() as transaction:
        transaction.records.append([audited(3)])
    with database.read() as transaction:
        records, hashes, _ = transaction.audit.read(0, 99, 100)
        state = transaction.audit.state()
        outside = transaction.audit.unchained()
    assert [place_of(record) for record in records] == [(1, None), (2, tenant.guid), (3, None)]
    chain = CHAIN_START
    for record, said in zip(records, hashes, strict=True):
        chain = extend(chain, record)
        assert said == chain
    assert state.tip == (3, chain)
    assert outside == 0


def test_what_is_undone_leaves_the_chain(database: Database) -> None:
    """A savepoint or a transaction that is rolled back takes its links with it."""
    with database.write() as transaction:
        transaction.records.append([audited(1)])
        with contextlib.suppress(LookupError), transaction.savepoint():
            transaction.records.append([audited(2)])
            raise LookupError
        transaction.records.append([audited(3)])
    with contextlib.suppress(LookupError), database.write() as transaction:
        transaction.records.append([audited(4)])
        raise LookupError
    with database.write() as transaction, contextlib.suppress(LookupError), transaction.savepoint():
        transaction.records.append([audited(5)])
        raise LookupError
    with database.write() as transaction:
        transaction.records.append([audited(6)])
    walker = walk(database)
    assert walker.finding is None
    assert walker.sequence == 3


def test_the_chain_goes_on_after_a_restart(database: Database, dsn: str) -> None:
    """Another process finds the end of the chain where the last one left it."""
    with database.write() as transaction:
        transaction.records.append([audited(1)])
    database.close()
    with Database.open(dsn) as again:
        with again.write() as transaction:
            transaction.records.append([audited(2)])
        walker = walk(again)
    assert walker.finding is None
    assert walker.sequence == 2


@pytest.mark.postgres
def test_concurrent_transactions_cannot_fork_it(postgres_database: str) -> None:
    """Without the lease, on PostgreSQL: the conditional update lets one of two transactions through."""
    with Database.open(postgres_database) as database:
        with database.write() as transaction:
            transaction.records.append([audited(1)])
        engine = make_engine(parse_dsn(postgres_database))
        with engine.execution_options(**INSIDE).connect() as connection:
            foreign = Transaction(connection, ChangeLog())
            foreign.audit.tip = foreign.audit.state().tip
            with database.write() as transaction:
                transaction.records.append([audited(2)])
            with pytest.raises(StoreUnavailable):
                foreign.records.append([audited(3)])
            connection.rollback()
        engine.dispose()
        walker = walk(database)
    assert walker.finding is None
    assert walker.sequence == 2


def test_retention_erases_the_begin_that_a_head_has_seen(database: Database) -> None:
    """Erasing moves the anchor, a step at a time; what is kept proves itself from there; nothing goes without a signed head."""
    retainer = Retainer({StreamName.AUDIT_MESSAGES: DAY_MS}, rows_a_step=3)
    for number in range(1, 11):
        with database.write() as transaction:
            transaction.records.append([audited(number, at_ms=NOW + number)])
    later = NOW + 3 * DAY_MS
    assert not retainer.step(database, later)
    with database.read() as transaction:
        assert transaction.audit.state().anchor == (0, CHAIN_START)
        links = [transaction.audit.hash_at(sequence) for sequence in range(1, 11)]
    for sequence, time_ms in ((4, NOW + 5), (8, NOW + 9), (10, NOW + 2 * DAY_MS)):
        with database.write() as transaction:
            transaction.audit.append_head(Head("i", sequence, links[sequence - 1] or b"", time_ms), f"head {sequence}")
    assert retainer.step(database, NOW + DAY_MS + 6)
    with database.read() as transaction:
        assert transaction.audit.state().anchor == (3, links[2])
    assert not retainer.step(database, NOW + DAY_MS + 6)
    with database.read() as transaction:
        assert transaction.audit.state().anchor == (4, links[3])
        assert transaction.audit.hash_at(4) == links[3]
        assert transaction.audit.hash_at(3) is None
        assert transaction.records.summary(StreamName.AUDIT_MESSAGES).records == 6
    while retainer.step(database, later + DAY_MS):
        pass
    with database.read() as transaction:
        assert transaction.audit.state().anchor == (10, links[9])
        assert transaction.records.summary(StreamName.AUDIT_MESSAGES).records == 0
    with database.write() as transaction:
        transaction.records.append([audited(11)])
    walker = walk(database)
    assert walker.finding is None
    assert walker.sequence == 11


def test_heads_are_thinned_out_to_one_a_day(database: Database) -> None:
    """All heads of the last two days are kept, of a day before that the last one."""
    begin = NOW - NOW % DAY_MS
    with database.write() as transaction:
        for number in range(40):
            head = Head("i", number + 1, b"h" * 32, begin + number * DAY_MS // 4)
            transaction.audit.append_head(head, f"head {number + 1}")
    with database.read() as transaction:
        kept = [head.sequence for head in transaction.audit.heads(0, 100)]
        newest = transaction.audit.newest_head()
    assert newest is not None
    assert newest.token == "head 40"
    assert kept[-9:] == list(range(32, 41))
    assert set(kept[:-9]) <= {4 * day for day in range(1, 9)}


def test_contradictions_are_kept_once(database: Database, register: Register) -> None:
    """What a Tenant has witnessed is kept once, however often the Tenant says it."""
    tenant = register(1)
    head = Head("i", 7, b"h" * 32, NOW)
    with database.write() as transaction:
        assert transaction.audit.contradict(tenant.id, head, "token", declared=False, now_ms=NOW)
        assert not transaction.audit.contradict(tenant.id, head, "token", declared=False, now_ms=NOW + 1)
    with database.read() as transaction:
        (found,) = transaction.audit.contradictions()
    assert (found.tenant_guid, found.sequence, found.declared, found.found_ms) == (tenant.guid, 7, False, NOW)
