"""Savepoints. On SQLite past SQLAlchemy's own: every commit has one, and to compile theirs costs more than a small commit."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection

from tenantry.master.sql.conditions import is_sqlite
from tenantry.master.sql.shortcut import is_in_transaction, run_on_sqlite
from tenantry.protocol.failures import StoreUnavailable


def savepoint(connection: Connection) -> AbstractContextManager[object]:
    """What the block does is undone alone when it raises; blocks may lie within each other. Raises StoreUnavailable."""
    return _part(connection) if is_sqlite(connection) else connection.begin_nested()


@contextmanager
def _part(connection: Connection) -> Iterator[None]:
    run_on_sqlite(connection, "SAVEPOINT part")  # of equal names the innermost is meant
    try:
        yield
    except BaseException as error:
        if not is_in_transaction(connection):
            raise StoreUnavailable(cause="the database has given up the transaction") from error
        run_on_sqlite(connection, "ROLLBACK TO part")
        run_on_sqlite(connection, "RELEASE part")
        raise
    run_on_sqlite(connection, "RELEASE part")
