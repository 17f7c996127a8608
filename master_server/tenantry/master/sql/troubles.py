"""Errors of the drivers in our words: what is the database's trouble, and what is a bug of ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tenantry.protocol.failures import StoreUnavailable

_UNANSWERED: Final = "the database does not answer"

# By SQLite's primary result code; what is missing here (such as SQLITE_ERROR, wrong SQL) is a bug.
_SQLITE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_BUSY: "another program has locked the database",
    sqlite3.SQLITE_LOCKED: "another program has locked the database",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_PERM: "the database's files may not be opened",
    sqlite3.SQLITE_CANTOPEN: "the database's files cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_PROTOCOL: "another program has locked the database",
    sqlite3.SQLITE_INTERRUPT: "the statement was interrupted",
}

# By SQLSTATE, the longest prefix first.
_POSTGRES: Final = (
    ("53100", "the disk is full"),
    ("53300", "the database has too many connections"),
    ("25006", "the database is read-only"),
    ("28", "the database refuses the user or the password"),
    ("3D", "there is no such database"),
    ("40", "the database gave up this transaction for another one"),
    ("53", "the database is short of resources"),
    ("57", "the database is shutting down or starting"),
    ("58", "the disk reports an error"),
    ("XX", "the database is damaged"),
)


def trouble(error: BaseException) -> str | None:
    """What is wrong with the database, without names, addresses or statements; None when the error is none of its own."""
    if isinstance(error, PoolTimeout):
        return "all connections to the database are busy"
    if isinstance(error, PendingRollbackError):
        return "the connection to the database was lost"
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return _SQLITE.get(code & 0xFF) if code is not None else None
    if not isinstance(error, DBAPIError):
        return None
    if isinstance(error.orig, sqlite3.Error):
        return trouble(error.orig)
    if not isinstance(error, (OperationalError, InterfaceError, InternalError)) and type(error) is not DatabaseError:
        return None
    state = getattr(error.orig, "sqlstate", None) or ""
    return next((text for prefix, text in _POSTGRES if state.startswith(prefix)), _UNANSWERED)


@contextmanager
def unavailable_on_trouble() -> Iterator[None]:
    """Raise StoreUnavailable for the database's own troubles; let everything else through."""
    try:
        yield
    except Exception as error:
        cause = trouble(error)
        if cause is None:
            raise
        raise StoreUnavailable(cause=cause) from error
