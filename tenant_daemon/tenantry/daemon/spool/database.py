"""The SQLite file under the spool: how it is opened, what is asserted about it, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

SCHEMA: Final = """
CREATE TABLE book (id INTEGER PRIMARY KEY CHECK (id = 1), content TEXT NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE records (
  id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, layout_id BLOB, data BLOB NOT NULL, chain BLOB NOT NULL,
  digest BLOB NOT NULL
) STRICT;
CREATE TABLE losses (
  id INTEGER PRIMARY KEY, last_id INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, chain BLOB NOT NULL,
  digest BLOB NOT NULL
) STRICT;
CREATE TABLE layouts (id BLOB PRIMARY KEY, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE memory (name TEXT PRIMARY KEY, content BLOB NOT NULL, digest BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE acknowledgements (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
"""

PAGE_BYTES: Final = 4_096
_CHECKPOINT_PAGES: Final = 256
_LEAST_CHECKPOINT_PAGES: Final = 16
_DISK_SHARE: Final = 16  # the write-ahead log may take two of these parts of what is free, the ballast four
_LEAST_PAGES: Final = 64
BALLAST_BYTES: Final = 4 << 20
_LEAST_BALLAST: Final = 64 << 10

_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    }
)
_SYNCHRONOUS_FULL: Final = 2


class SpoolDamaged(Exception):
    """The file is broken, gone, or not this daemon's; the message says which."""


class DurabilityMissing(Exception):
    """SQLite does not work as it must here: what it says is committed would not survive a power cut."""


# Opens a connection that begins no transactions of its own. Another one puts another disk under the spool.
Connect = Callable[[Path], sqlite3.Connection]


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file of the operating system. Raises sqlite3.Error."""
    return sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)


def open_database(path: Path, quota: int, connect: Connect = connect) -> sqlite3.Connection:
    """Open (or create) the file so that a commit survives a power cut, capped at ``quota`` bytes and below the disk's end.

    Raises sqlite3.Error, DurabilityMissing.
    """
    connection = connect(path)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if mode != "wal" or synchronous != _SYNCHRONOUS_FULL:
            raise DurabilityMissing(f"journal_mode is {mode}, synchronous is {synchronous}")
        _settle_log(connection)
        connection.execute(f"PRAGMA wal_autocheckpoint = {_checkpoint_pages(path)}")
        connection.execute(f"PRAGMA journal_size_limit = {_checkpoint_pages(path) * PAGE_BYTES}")
        cap_pages(connection, path, quota)
    except BaseException:
        connection.close()
        raise
    return connection


def _settle_log(connection: sqlite3.Connection) -> None:
    # What another connection left in the WAL can be read, but after a failed sync it may never have got to the disk: it is
    # written to the database file and synced there before anything builds on it.
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise DurabilityMissing("another process has the spool open")


def cap_pages(connection: sqlite3.Connection, path: Path, quota: int) -> None:
    """Cap the file at ``quota`` and below the disk: on a full disk SQLite cannot even delete, because that is written too."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    reserve = 2 * _checkpoint_pages(path) * PAGE_BYTES
    room = pages * PAGE_BYTES + _free_bytes(path) - reserve
    limit = max(_LEAST_PAGES, pages, min(quota, room) // PAGE_BYTES)
    connection.execute(f"PRAGMA max_page_count = {int(limit)}")


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def _checkpoint_pages(path: Path) -> int:
    """How far the write-ahead log may grow: less on a small disk."""
    return max(_LEAST_CHECKPOINT_PAGES, min(_CHECKPOINT_PAGES, _free_bytes(path) // _DISK_SHARE // PAGE_BYTES))


def check_integrity(connection: sqlite3.Connection, *, thorough: bool) -> None:
    """Raises SpoolDamaged with what SQLite found."""
    check = "PRAGMA integrity_check(1)" if thorough else "PRAGMA quick_check(1)"
    (verdict,) = connection.execute(check).fetchone()
    if verdict != "ok":
        raise SpoolDamaged(f"the file is broken: {str(verdict)[:200]}")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file's content is broken. Our statements are fixed, so one that fails by itself says so too."""
    code = primary_code(error)
    if code is None:
        return isinstance(error, sqlite3.OperationalError)  # the driver cannot decode what it read
    return code in _DAMAGE


def is_full(error: sqlite3.Error) -> bool:
    """Whether an error says that there is no room, in the file or on the disk."""
    return primary_code(error) == sqlite3.SQLITE_FULL


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


class Ballast:
    """A file that is given up when the disk is full, so that what waits can still be delivered and deleted."""

    def __init__(self, path: Path, quota: int) -> None:
        self._path = path
        self._bytes = min(BALLAST_BYTES, quota // 16)

    def lay(self) -> None:
        """Make the file, as large as the disk allows; none at all where it does not."""
        size = min(self._bytes, 4 * _free_bytes(self._path) // _DISK_SHARE)
        while not self._path.exists() and size >= _LEAST_BALLAST:
            try:
                with self._path.open("xb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                self._path.unlink(missing_ok=True)
                size //= 2

    def drop(self) -> bool:
        """Give it up; whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
