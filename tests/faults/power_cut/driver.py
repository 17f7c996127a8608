"""As much of Python's database interface over apsw as SQLAlchemy's sqlite dialect needs: `sqlite3` takes no VFS in Python.

The module is given to SQLAlchemy in place of `sqlite3`, so the store under test runs unchanged. Errors are those of
`sqlite3`, with SQLite's codes.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import apsw

apilevel: Final = "2.0"
paramstyle: Final = "qmark"
threadsafety: Final = 1
sqlite_version: Final = apsw.sqlite_lib_version()
sqlite_version_info: Final = tuple(int(part) for part in sqlite_version.split("."))

Warning = sqlite3.Warning  # noqa: A001 - the interface's name
Error = sqlite3.Error
InterfaceError = sqlite3.InterfaceError
DatabaseError = sqlite3.DatabaseError
DataError = sqlite3.DataError
OperationalError = sqlite3.OperationalError
IntegrityError = sqlite3.IntegrityError
InternalError = sqlite3.InternalError
ProgrammingError = sqlite3.ProgrammingError
NotSupportedError = sqlite3.NotSupportedError
Binary = memoryview

_CLASSES: Final = {
    apsw.ConstraintError: IntegrityError,
    apsw.CorruptError: DatabaseError,
    apsw.NotADBError: DatabaseError,
}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        failure = _CLASSES.get(type(error), OperationalError)(str(error))
        failure.sqlite_errorcode = getattr(error, "extendedresult", getattr(error, "result", 1))
        raise failure from error


class Cursor:
    """Reads all rows at once, so that a statement is finished when `execute` returns."""

    arraysize = 1

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> "Cursor":
        """Run one statement."""
        return self._run(statement, [parameters])

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> "Cursor":
        """Run one statement for each row."""
        return self._run(statement, rows)

    def _run(self, statement: str, rows: Iterable[Sequence[Any]]) -> "Cursor":
        before = self._connection.total_changes()
        self._rows = []
        self.description = None
        with _translated():
            cursor = self._connection.cursor()
            cursor.exec_trace = self._describe
            for row in rows:
                self._rows += cursor.execute(statement, tuple(row)).fetchall()
        changed = statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE")
        self.rowcount = self._connection.total_changes() - before if changed else -1
        self.lastrowid = self._connection.last_insert_rowid()
        return self

    def _describe(self, cursor: apsw.Cursor, _statement: str, _bindings: Any) -> bool:
        columns = cursor.get_description()
        self.description = tuple((name, kind, *([None] * 5)) for name, kind in columns) if columns else None
        return True

    def fetchone(self) -> Any:
        """The next row, None at the end."""
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows."""
        taken, self._rows = self._rows[: size or self.arraysize], self._rows[size or self.arraysize :]
        return taken

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        taken, self._rows = self._rows, []
        return taken

    def close(self) -> None:
        """Nothing is open."""


class Connection:
    """A connection without transactions of its own: BEGIN is said explicitly, as with `isolation_level=None`."""

    def __init__(self, path: str, vfs: str) -> None:
        with _translated():
            self._connection = apsw.Connection(path, vfs=vfs)
            self._connection.set_busy_timeout(10_000)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def cursor(self) -> Cursor:
        """A cursor of this connection."""
        return Cursor(self._connection)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run one statement with a cursor of its own."""
        return self.cursor().execute(statement, parameters)

    def commit(self) -> None:
        """COMMIT, if a transaction is open."""
        if self._connection.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        """ROLLBACK, if a transaction is open."""
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    def create_function(self, name: str, arguments: int, function: Any, *, deterministic: bool = False) -> None:
        """Make a Python function known to SQL."""
        self._connection.create_scalar_function(name, function, arguments, deterministic=deterministic)

    def close(self) -> None:
        """Close the connection, whatever the disk says."""
        with suppress(apsw.Error):
            self._connection.close(True)


def connect(path: str, vfs: str) -> Connection:
    """Open a database on a VFS by name."""
    return Connection(path, vfs)
