import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tenantry.master.sql import engines
from tenantry.master.sql.database import Database
from tenantry.master.sql.refusals import DsnInvalid, DurabilityRefused, StoreRefused, StoreUnreachable


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "master.db",
        "sqlite://",
        "sqlite:///relative.db",
        "mysql://user:secret@host/db",
        "sqlite:///:memory:",
        "://secret",
    ],
)
def test_a_dsn_of_no_store_is_refused_without_showing_it(dsn: str) -> None:
    """Anything but an absolute SQLite path or PostgreSQL is refused, and the message holds nothing of it."""
    with pytest.raises(DsnInvalid) as refused:
        Database.open(dsn)
    assert "secret" not in str(refused.value) and refused.value.__cause__ is None


def test_an_unreachable_server_is_named_without_its_password() -> None:
    """No server there: a refusal in words, neither host nor password in it."""
    with pytest.raises(StoreUnreachable) as refused:
        Database.open("postgresql://user:geheim@127.0.0.1:1/db")
    assert "geheim" not in str(refused.value) and "127.0.0.1" not in str(refused.value)


@pytest.mark.parametrize("content", [b"this is no database" * 100])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """A wrong file is left as it is, and the refusal says what is wrong."""
    path = tmp_path / "master.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnreachable, match="not a database"):
        Database.open(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A path into nowhere gives a refusal, not a traceback of the driver."""
    with pytest.raises(StoreUnreachable):
        Database.open(f"sqlite:///{tmp_path}/none/master.db")


def test_the_files_are_private(tmp_path: Path) -> None:
    """Whatever the umask, nobody else can read the store: it holds hashes of keys and everything that Tenants sent."""
    before = os.umask(0)
    try:
        with Database.open(f"sqlite:///{tmp_path}/master.db") as database, database.write() as transaction:
            transaction.settings.set("a", "b")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) >= {"master.db", "master.db-wal"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
def test_a_store_that_does_not_sync_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Whoever weakens the settings is not started: the value is read back from SQLite itself."""
    weaker = tuple(one.replace("synchronous = FULL", f"synchronous = {mode}") for one in engines._PRAGMAS)
    monkeypatch.setattr(engines, "_PRAGMAS", weaker)
    with pytest.raises(DurabilityRefused, match="synchronous"):
        Database.open(f"sqlite:///{tmp_path}/master.db")


def test_a_store_without_a_write_ahead_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers would block the writer; the journal mode is read back as well."""
    monkeypatch.setattr(engines, "_PRAGMAS", ("PRAGMA journal_mode = DELETE", "PRAGMA synchronous = FULL"))
    with pytest.raises(DurabilityRefused, match="journal_mode"):
        Database.open(f"sqlite:///{tmp_path}/master.db")


@pytest.mark.postgres
def test_a_server_that_does_not_wait_for_the_disk_is_refused(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session with asynchronous commits is not used."""

    def weaken(connection: Any, _record: object) -> None:
        connection.execute("SET synchronous_commit TO off")
        connection.commit()

    monkeypatch.setattr(engines, "_set_up_postgres", weaken)
    with pytest.raises(DurabilityRefused, match="synchronous_commit"):
        Database.open(postgres_database)


@pytest.mark.postgres
def test_a_role_that_prefers_speed_is_overruled(postgres_database: str) -> None:
    """What the database is set to by default does not weaken our own sessions."""
    engine = sqlalchemy.create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    engine.dispose()
    with Database.open(postgres_database) as database, database.write() as transaction:
        shown = transaction.connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
    assert shown == "on"


def test_refusals_are_one_family(tmp_path: Path) -> None:
    """A program that catches StoreRefused has caught every reason not to start."""
    path = tmp_path / "master.db"
    sqlite3.connect(path).close()
    with Database.open(f"sqlite:///{path}"), pytest.raises(StoreRefused, match=str(os.getpid())):
        Database.open(f"sqlite:///{path}")
