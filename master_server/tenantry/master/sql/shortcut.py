"""Statements given to SQLite's driver itself: what SQLAlchemy does around one costs ten times the statement."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection


def run_on_sqlite(connection: Connection, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
    """Run a statement on a connection to SQLite; ``?`` in it stand for ``values``. Raises the driver's own `sqlite3.Error`."""
    driver: Any = connection.connection.dbapi_connection
    cursor: sqlite3.Cursor = driver.execute(statement, values)
    return cursor


def run_many_on_sqlite(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """The same once for each of these."""
    driver: Any = connection.connection.dbapi_connection
    driver.cursor().executemany(statement, rows)


def is_in_transaction(connection: Connection) -> bool:
    """Whether SQLite has an open transaction there: it gives one up by itself when the disk is full."""
    driver: Any = connection.connection.dbapi_connection
    return bool(driver.in_transaction)
