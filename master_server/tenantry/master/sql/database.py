"""The database of a Master: opened once, read by many threads, written by one transaction at a time."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.sql.audit_chain import ChainEnd
from tenantry.master.sql.changes import ChangeLog, Changes
from tenantry.master.sql.engines import Kind, create_private_file, kind_of, make_engine, parse_dsn, sqlite_path
from tenantry.master.sql.lease import lease_file
from tenantry.master.sql.marks import MarkBook
from tenantry.master.sql.migrating import migrate
from tenantry.master.sql.refusals import StoreUnreachable
from tenantry.master.sql.transaction import Transaction
from tenantry.master.sql.troubles import trouble, unavailable_on_trouble
from tenantry.master.sql.turns import FairLock
from tenantry.master.sql.wall import SNAPSHOT, is_held, seeing
from tenantry.master.sql.writer import Writer
from tenantry.process.files import LockedFile
from tenantry.protocol.failures import StoreUnavailable


class Database:
    """A store on SQLite or PostgreSQL. Its methods block; call them in threads.

    What `write` has committed is on disk when its ``with`` block ends, and in the order in which the blocks ran.
    """

    def __init__(
        self,
        kind: Kind,
        engine: Engine,
        writer: Writer,
        lease: LockedFile | None,
        on_commit: Callable[[Changes], None] | None,
    ) -> None:
        self.kind: Kind = kind
        self._engine = engine
        self._reader = engine.execution_options(**SNAPSHOT)
        self._writer = writer
        self._lease = lease
        self._on_commit = on_commit
        self._turns = FairLock()
        self._audit_end: ChainEnd | None = None
        self._marks: MarkBook | None = None

    @classmethod
    def open(
        cls,
        dsn: str,
        *,
        on_commit: Callable[[Changes], None] | None = None,
        _engine_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Take the lease on a store, bring its schema up to date and prove that its commits are durable.

        ``dsn`` is ``sqlite:////absolute/path`` (made where there is none) or ``postgresql://user@host/database``.
        ``on_commit`` is called after each COMMIT that changed a Tenant or a stream, in the thread that wrote and
        before the next one writes; it must be quick and raise nothing.

        Raises:
            DsnInvalid: the DSN names no such store.
            StoreInUse: another Master has it.
            StoreUnreachable: it cannot be opened.
            StoreNewer: a newer version of this program has migrated it.
            DurabilityRefused: a power cut could take back what it acknowledges.
        """
        url = parse_dsn(dsn)
        lease = None
        if kind_of(url) == "sqlite":
            lease = lease_file(sqlite_path(url))
        engine = None
        try:
            if lease is not None:
                create_private_file(sqlite_path(url))
            engine = make_engine(url, _engine_options)
            writer = Writer(engine)
            _prepare(writer)
        except BaseException:
            if engine is not None:
                engine.dispose()
            if lease is not None:
                lease.release()
            raise
        return cls(kind_of(url), engine, writer, lease, on_commit)

    @contextmanager
    def read(self, sight: Sight = EVERYTHING) -> Iterator[Transaction]:
        """A transaction that sees one state of the store and changes nothing. Raises StoreUnavailable.

        On PostgreSQL the database itself shows it nothing else of what has an owner than ``sight``: give it wherever somebody
        asks who may not see everything.
        """
        with unavailable_on_trouble(), self._reader.connect() as connection:
            yield Transaction(connection.execution_options(**seeing(sight)), ChangeLog())

    def is_walled(self) -> bool:
        """Whether the database itself keeps viewers from what is not theirs, beside the stores' filters. Raises StoreUnavailable."""
        with unavailable_on_trouble(), self._reader.connect() as connection:
            return self.kind == "postgresql" and is_held(connection)

    def free_bytes(self) -> int | None:
        """What is left on the disk of the store; None for PostgreSQL, whose disk is elsewhere. Raises OSError."""
        if self.kind == "postgresql":
            return None
        return shutil.disk_usage(sqlite_path(self._engine.url).parent).free

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that changes the store: committed at the end of the block, rolled back when it raises.

        Blocks of all threads run one after the other, in the order in which they came; a block within a block raises
        RuntimeError. Raises StoreUnavailable when the database cannot write now. Where the answer to COMMIT is lost it
        is raised as well, and nobody knows whether the change is there: what is repeated must bear being there already.
        """
        changes = ChangeLog()
        with self._turns:
            connection = self._writer.connection()
            audit_end, self._audit_end = self._audit_end, None
            marks, self._marks = self._marks, None
            try:
                with unavailable_on_trouble(), connection.begin():
                    transaction = Transaction(connection, changes, audit_end, marks)
                    yield transaction
                    marks = transaction.marks.settle()
                    if self._on_commit is not None:
                        # Here rather than by a reader afterwards: followers wait for it, and what was saved is known already.
                        changes.learn_tenants(transaction.tenants.by_ids(changes.doubtful_tenants))
                self._audit_end, self._marks = transaction.audit.known(), marks
            except Exception as error:
                if isinstance(error, (StoreUnavailable, SQLAlchemyError, sqlite3.Error)):
                    self._writer.recover()
                raise
            except BaseException:
                self._writer.recover()
                raise
            changed = changes.take()
            if changed is not None and self._on_commit is not None:
                self._on_commit(changed)

    def close(self) -> None:
        """Wait for the transaction that writes now, close all connections and give the lease back."""
        with self._turns:
            self._writer.close()
            self._engine.dispose()
            if self._lease is not None:
                self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prepare(writer: Writer) -> None:
    try:
        connection = writer.open()
        with connection.begin():
            migrate(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        writer.close()
        cause = trouble(error)
        if cause is None:
            raise
        raise StoreUnreachable(cause) from error
    except BaseException:
        writer.close()
        raise
