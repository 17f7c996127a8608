"""The driver of this folder with what the spool uses beyond it, and one that only pretends to sync."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from tests.faults.power_cut import driver


class _Cursor(driver.Cursor):
    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


class _Connection(driver.Connection):
    def cursor(self) -> _Cursor:
        """A cursor of this connection."""
        return _Cursor(self._connection)

    def executescript(self, script: str) -> _Cursor:
        """Run some statements."""
        cursor = self.cursor()
        cursor.execute(script)
        return cursor


class _Liar(_Connection):
    """A connection that does not sync, and says that it does."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> driver.Cursor:
        if statement == "PRAGMA synchronous":
            return super().execute("SELECT 2")
        return super().execute(statement.replace("synchronous = FULL", "synchronous = OFF"), parameters)


def connect(path: Path, vfs: str, *, lying: bool = False) -> sqlite3.Connection:
    """A connection for the spool to a file on this VFS."""
    kind = _Liar if lying else _Connection
    return cast("sqlite3.Connection", kind(str(path), vfs))
