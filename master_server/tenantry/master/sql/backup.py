"""Backups: a SQLite file with the same tables, whatever database the store is on, and the way back."""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from tenantry.master.sql.counters import read_counter, write_counter
from tenantry.master.sql.database import Database
from tenantry.master.sql.engines import create_private_file, kind_of, make_engine, parse_dsn, sqlite_path
from tenantry.master.sql.migrating import migrate, revision_differs
from tenantry.master.sql.refusals import BackupUnreadable, SchemaDiffers, StoreNotEmpty, StoreRefused, StoreUnreachable
from tenantry.master.sql.tables import metadata
from tenantry.master.sql.troubles import trouble
from tenantry.master.sql.wall import INSIDE, SNAPSHOT
from tenantry.process.files import sync_directory

Progress = Callable[[int, int], None]
"""Called with what is done and what there is, in steps of the copy's own."""

RESTORED_AT: Final = "restored_at_ms"
_PAGES: Final = 1_024
_ROWS: Final = 500


def copy_running(dsn: str, target: Path, progress: Progress | None = None) -> None:
    """Copy a store as it is at one moment into the new file ``target``, while a Master may be writing to it.

    Needs no lease, and neither stops nor slows the Master's commits. The file has mode 0600, and appears when it is
    complete and on disk.

    Raises:
        DsnInvalid, StoreUnreachable: there is no such store.
        SchemaDiffers: another version of this program has written the store.
    """
    url = parse_dsn(dsn)
    with _appearing(target) as work:
        if kind_of(url) == "sqlite":
            _copy_file(sqlite_path(url), work, progress, StoreUnreachable)
        else:
            _copy_server(url, work, progress)


def restore_into(
    dsn: str, source: Path, *, restored_at_ms: int | None = None, progress: Progress | None = None
) -> None:
    """Fill an empty store from a backup, in one transaction: all of it is there afterwards, or nothing.

    Needs room for another copy of the backup beside it for as long as it takes. Settings come back as they were
    (``instance_id`` among them); ``restored_at_ms`` (Unix milliseconds) becomes the setting of that name.

    Raises:
        BackupUnreadable: the file is no backup, or damaged.
        StoreNewer: a newer version of this program made it.
        StoreNotEmpty: there is something in the store already.
        StoreRefused: the store cannot be opened.
    """
    with _migrated_copy(source) as origin, Database.open(dsn) as database, database.write() as transaction:
        if any(transaction.connection.execute(select(table).limit(1)).first() for table in metadata.sorted_tables):
            raise StoreNotEmpty
        _copy_tables(origin, transaction.connection, progress)
        if restored_at_ms is not None:
            transaction.settings.set(RESTORED_AT, str(restored_at_ms))


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A private file that takes the name ``target`` at the end, complete and on disk, or disappears."""
    work = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
    create_private_file(work)
    try:
        yield work
        descriptor = os.open(work, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        work.rename(target)
        sync_directory(target.parent)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            work.with_name(work.name + suffix).unlink(missing_ok=True)


def _copy_file(source: Path, work: Path, progress: Progress | None, refusal: Callable[[str], StoreRefused]) -> None:
    def report(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, isolation_level=None)) as origin,
            contextlib.closing(sqlite3.connect(work, isolation_level=None)) as copy,
        ):
            # The open snapshot keeps the copy from starting again with each commit of the Master.
            origin.execute("BEGIN")
            origin.execute("SELECT version_num FROM alembic_version").fetchall()
            origin.backup(copy, pages=_PAGES, progress=report)
            origin.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode = DELETE")
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise refusal(trouble(error) or "it holds no store of a Master") from error
    if found != "ok":
        raise refusal("the database file is damaged")


def _copy_server(url: URL, work: Path, progress: Progress | None) -> None:
    source = make_engine(url)
    target = make_engine(URL.create("sqlite", database=str(work)))
    try:
        with source.connect() as plain, target.connect().execution_options(writes=True) as copy:
            origin = plain.execution_options(**SNAPSHOT, **INSIDE)
            if revision_differs(origin):
                raise SchemaDiffers
            with copy.begin():
                migrate(copy)
                _copy_tables(origin, copy, progress)
            copy.connection.execute("PRAGMA journal_mode = DELETE")
    except SQLAlchemyError as error:
        raise StoreUnreachable(trouble(error) or "it holds no store of a Master") from error
    finally:
        source.dispose()
        target.dispose()


@contextlib.contextmanager
def _migrated_copy(source: Path) -> Iterator[Connection]:
    """A connection to a copy of the backup that has this program's schema."""
    work = source.with_name(f".{source.name}.{secrets.token_hex(8)}.restoring")
    create_private_file(work)
    engine = make_engine(URL.create("sqlite", database=str(work)))
    try:
        _copy_file(source.absolute(), work, None, BackupUnreadable)
        with engine.connect() as connection:
            with connection.begin():
                migrate(connection)
            with connection.begin():
                yield connection
    finally:
        engine.dispose()
        for suffix in ("", "-wal", "-shm"):
            work.with_name(work.name + suffix).unlink(missing_ok=True)


def _copy_tables(origin: Connection, target: Connection, progress: Progress | None) -> None:
    """Copy all rows into empty tables, parents before children, and the numbers that were given out."""
    total = sum(_count(origin, table) for table in metadata.sorted_tables)
    done = 0
    for table in metadata.sorted_tables:
        statement = insert(table)
        rows = origin.execution_options(yield_per=_ROWS).execute(select(table))
        for batch in rows.mappings().partitions(_ROWS):
            target.execute(statement, [dict(row) for row in batch])
            done += len(batch)
            if progress is not None:
                progress(done, total)
        write_counter(target, table, read_counter(origin, table))


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
