"""The one connection that writes. On PostgreSQL it holds the lease as well, so nothing is written without it."""

from contextlib import suppress
from typing import Final

from sqlalchemy import Connection, Engine

from tenantry.master.sql.engines import check_durability
from tenantry.master.sql.lease import Session, lease_session
from tenantry.master.sql.refusals import StoreRefused
from tenantry.master.sql.shortcut import is_in_transaction, run_on_sqlite
from tenantry.master.sql.troubles import unavailable_on_trouble
from tenantry.master.sql.wall import INSIDE
from tenantry.protocol.failures import StoreUnavailable

_PATIENCE_S: Final = 2.0


class Writer:
    """Keeps the writing connection and opens it anew after trouble. Used by one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._closed = False

    def open(self) -> Connection:
        """The connection, without an open transaction, durable, with the lease.

        Raises StoreRefused, and the driver's errors.
        """
        if self._connection is None:
            connection = self._engine.connect()
            try:
                # Never back into the pool: the lease and the role of the writer belong to it until it is closed.
                connection.detach()
                if connection.dialect.name == "postgresql":
                    self._session = lease_session(connection, self._session, _PATIENCE_S)
                check_durability(connection)
                connection.rollback()
                if connection.dialect.name == "sqlite":
                    # What a savepoint would have to undo: else it goes into a file, each page that a commit changes once more.
                    run_on_sqlite(connection, "PRAGMA temp_store = MEMORY")
                    _settle_log(connection)
                self._connection = connection.execution_options(writes=True, **INSIDE)
            finally:
                if self._connection is None:
                    connection.close()
        return self._connection

    def connection(self) -> Connection:
        """As `open`, for a running Master. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable(cause="it is closed")
        with unavailable_on_trouble():
            try:
                return self.open()
            except StoreRefused as error:
                raise StoreUnavailable(cause=str(error)) from error

    def recover(self) -> None:
        """After trouble of the database: have a connection that works, and believes nothing that is not on disk.

        On PostgreSQL a new session. On SQLite the one that is there, rolled back: a sync may have failed, after which
        the WAL reads as if it were on disk; who opens it anew finds the failed commit in it and builds on it, while
        the old connection writes over it.
        """
        connection = self._connection
        if connection is None or connection.dialect.name != "sqlite" or _in_transaction(connection):
            self.drop()

    def drop(self) -> None:
        """Give the connection up; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # It is given up because it misbehaves: how it ends does not matter any more.
            with suppress(Exception):
                connection.close()

    def close(self) -> None:
        """Give the connection up for good."""
        self._closed = True
        self.drop()


def _settle_log(connection: Connection) -> None:
    # What another life of this store left in the WAL can be read, but whether it ever got to the disk nobody knows: it
    # is written to the database file and synced there before anything builds on it.
    run_on_sqlite(connection, "PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _in_transaction(connection: Connection) -> bool:
    return connection.in_transaction() or is_in_transaction(connection)
