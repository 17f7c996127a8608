"""Savepoints. On SQLite past SQLAlchemy's own: every commit has one, and to compile theirs costs more than a small commit."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection

from tenantry.master.sql.conditions import is_sqlite
from tenantry.protocol.failures import StoreUnavailable


def savepoint(connection: Connection) -> AbstractContextManager[object]:
    """What the block does is undone alone when it raises; blocks may lie within each other. Raises StoreUnavailable."""
    return _part(connection) if is_sqlite(connection) else connection.begin_nested()


@contextmanager
def _part(connection: Connection) -> Iterator[None]:
    connection.exec_driver_sql("SAVEPOINT part")  # of equal names the innermost is meant
    try:
        yield
    except BaseException as error:
        driver: Any = connection.connection.dbapi_connection
        if not driver.in_transaction:
            raise StoreUnavailable(cause="the database has given up the transaction") from error
        connection.exec_driver_sql("ROLLBACK TO part")
        connection.exec_driver_sql("RELEASE part")
        raise
    connection.exec_driver_sql("RELEASE part")
