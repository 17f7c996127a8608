import sqlite3
import statistics
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import event

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import StoreUnavailable
from tests.suites.conftest import new_tenant

NOW = 1_700_000_000_000


def _keyed(tenant_id: int | None = None) -> NewRecord:
    return NewRecord(StreamName.ALERTS, NOW, NOW, tenant_id, {})


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    """Where a SQLite store is."""
    return tmp_path / "master.db"


def test_another_program_in_the_way_is_a_trouble_that_passes(sqlite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else locks the file writes fail with a reason and change nothing; afterwards they work."""
    monkeypatch.setattr("tenantry.master.sql.engines.BUSY_TIMEOUT_S", 0.05)
    with Database.open(f"sqlite:///{sqlite}") as database, closing(sqlite3.connect(sqlite)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another program has locked"), database.write() as transaction:
            transaction.settings.set("a", "b")
        other.rollback()
        with database.write() as transaction:
            assert transaction.settings.get("a") is None
            transaction.settings.set("a", "c")


def test_a_full_disk_is_a_trouble_that_passes(sqlite: Path) -> None:
    """F17: a full disk fails the write that met it, leaves what was committed, and is over when there is room again."""
    with Database.open(f"sqlite:///{sqlite}") as database:
        with database.write() as transaction:
            transaction.settings.set("a", "b")
            transaction.connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as much as there is
        with pytest.raises(StoreUnavailable, match="the disk is full"), database.write() as transaction:
            transaction.settings.set("big", "x" * 10_000_000)
        with database.write() as transaction:
            assert transaction.settings.get("a") == "b" and transaction.settings.get("big") is None
            transaction.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
            transaction.settings.set("big", "x" * 10_000_000)


def test_a_bug_is_no_trouble_of_the_database(sqlite: Path) -> None:
    """A wrong statement or a broken constraint is not reported as an outage: nobody would look for the bug."""
    with Database.open(f"sqlite:///{sqlite}") as database:
        with pytest.raises(sqlalchemy.exc.OperationalError), database.write() as transaction:
            transaction.connection.exec_driver_sql("SELECT * FROM nothing")
        with pytest.raises(sqlite3.IntegrityError), database.write() as transaction:
            transaction.records.append([_keyed(tenant_id=99)])
        with database.write() as transaction:
            transaction.records.append([_keyed()])


def test_statements_do_not_show_their_values_in_errors(sqlite: Path) -> None:
    """Errors of the driver end up in logs: they hold no value, which may be a hash or what a Tenant sent."""
    record = NewRecord(StreamName.ALERTS, NOW, NOW, 99, {"canary": "geheim"})
    database = Database.open(f"sqlite:///{sqlite}")
    with closing(database), pytest.raises(sqlite3.IntegrityError) as failed, database.write() as transaction:
        transaction.records.append([record])
    assert "geheim" not in str(failed.value)


@pytest.fixture
def postgres(postgres_database: str) -> Iterator[Database]:
    """An open store on PostgreSQL."""
    with Database.open(postgres_database) as database:
        yield database


def _end_sessions(dsn: str) -> None:
    with psycopg.connect(dsn.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.postgres
def test_a_lost_connection_is_a_trouble_that_passes(postgres: Database, postgres_database: str) -> None:
    """F14: when the server ends the sessions, the write that met it fails, and the next one has a new session and the lease."""
    _end_sessions(postgres_database)
    with pytest.raises(StoreUnavailable), postgres.write() as transaction:
        transaction.settings.set("a", "1")
    with postgres.write() as transaction:
        assert transaction.settings.get("a") is None
        transaction.settings.set("a", "2")
    with postgres.read() as transaction:
        assert transaction.settings.get("a") == "2"


@pytest.mark.postgres
def test_a_connection_lost_within_a_transaction_changes_nothing(postgres: Database, postgres_database: str) -> None:
    """F14: half a transaction leaves no trace, and the work can be done again."""

    def interrupted() -> None:
        with postgres.write() as transaction:
            transaction.records.append([_keyed()])
            _end_sessions(postgres_database)
            transaction.records.append([_keyed()])

    with pytest.raises(StoreUnavailable):
        interrupted()
    with postgres.read() as transaction:
        assert transaction.records.summary(StreamName.AUDIT_MESSAGES).records == 0
    with postgres.write() as transaction:
        transaction.records.append([_keyed()])


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.postgres
def test_when_the_answer_to_commit_is_lost_a_repetition_finds_out(
    postgres: Database, postgres_database: str, committed: bool
) -> None:
    """F14: the connection drops around COMMIT; whatever the outcome, the same keyed work done again is stored once."""
    with postgres.write() as transaction:
        tenant = transaction.tenants.insert(new_tenant(1))
    record = NewRecord(StreamName.ALERTS_MASTER, NOW, NOW, tenant.id, {}, b"e" * 16, 1)

    def cut(connection: Any) -> None:
        if committed:
            connection.connection.commit()
        _end_sessions(postgres_database)
        if committed:
            raise sqlalchemy.exc.OperationalError("COMMIT", None, psycopg.OperationalError("the answer is lost"))

    event.listen(postgres._writer.open(), "commit", cut, once=True)
    with pytest.raises(StoreUnavailable), postgres.write() as transaction:
        transaction.records.append([record])
    with postgres.write() as transaction:
        before = transaction.records.newest_position(StreamName.ALERTS_MASTER)
        assert (before > 0) is committed
        transaction.records.append([record])
    with postgres.read() as transaction:
        assert transaction.records.summary(StreamName.ALERTS_MASTER).records == 1


@pytest.mark.postgres
def test_the_lease_is_that_of_the_session_that_writes(postgres: Database, postgres_database: str) -> None:
    """A Master whose session ended while another took the store over writes nothing any more."""
    _end_sessions(postgres_database)
    with Database.open(postgres_database) as newcomer:
        with pytest.raises(StoreUnavailable), postgres.write() as transaction:
            transaction.settings.set("a", "old")
        with pytest.raises(StoreUnavailable, match="another Master"), postgres.write() as transaction:
            transaction.settings.set("a", "old")
        with newcomer.write() as transaction:
            transaction.settings.set("a", "new")


@pytest.mark.postgres
def test_a_session_that_the_server_still_believes_in_is_ended(postgres: Database) -> None:
    """A network cut leaves our former session, and so our lease, alive on the server: it does not lock us out."""
    held = postgres._writer._connection
    assert held is not None
    postgres._writer._connection = None  # as if the network had gone: the session lives on, unreachable
    with postgres.write() as transaction:
        transaction.settings.set("a", "b")
    with suppress(sqlalchemy.exc.DBAPIError):
        held.close()


def test_a_busy_writer_does_not_keep_others_out(sqlite: Path) -> None:
    """While one thread commits without a pause, another one's write gets its turn after the one under way."""
    with Database.open(f"sqlite:///{sqlite}") as database:
        stop = threading.Event()
        commits: list[int] = []

        def ingest() -> None:
            while not stop.is_set():
                with database.write() as transaction:
                    commits.append(transaction.records.append([_keyed()]))

        busy = threading.Thread(target=ingest)
        busy.start()
        waits = []
        try:
            for _ in range(20):
                before = len(commits)
                with database.write() as transaction:
                    transaction.settings.set("a", "b")
                    waits.append(len(commits) - before)
        finally:
            stop.set()
            busy.join()
    # Before a thread asks, the machine may hold it up for some commits; without turns it would be many, each time.
    assert statistics.median(waits) <= 2
