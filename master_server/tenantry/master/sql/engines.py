"""Engines for both databases, set so that a COMMIT that returned is on disk, and the proof that it is so."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tenantry.master.sql import wall
from tenantry.master.sql.refusals import DsnInvalid, DurabilityRefused, StoreUnreachable
from tenantry.master.sql.shortcut import run_on_sqlite

Kind = Literal["sqlite", "postgresql"]

BUSY_TIMEOUT_S: Final = 10.0
# Values never show in errors, which end up in logs.
_COMMON: Final[dict[str, object]] = {"pool_size": 8, "max_overflow": 24, "pool_timeout": 30.0, "hide_parameters": True}
_FULL: Final = 2  # PRAGMA synchronous: the WAL is synced at each COMMIT

_PRAGMAS: Final = (
    # Only of a file that is still empty. A commit's segment fills many pages, and each is two writes to the log: with the default of
    # 4 KiB they cost a quarter more.
    "PRAGMA page_size = 8192",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: plain fsync leaves the data in the drive's cache
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 2000",  # pages: each checkpoint syncs the database file as well
    "PRAGMA journal_size_limit = 67108864",  # a WAL that grew under a long read shrinks again
    "PRAGMA cache_size = -16000",  # KiB
)

# A network that is gone shows after about 15 s instead of after hours.
_POSTGRES_CONNECT: Final[dict[str, object]] = {
    "application_name": "tenantry-master",
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def parse_dsn(dsn: str) -> URL:
    """The URL of a store with the driver that we use. Raises DsnInvalid, which never shows the DSN."""
    try:
        url = make_url(dsn)
    except ArgumentError:
        raise DsnInvalid from None
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database and Path(url.database).is_absolute():
        return url.set(drivername="sqlite")
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise DsnInvalid


def kind_of(url: URL) -> Kind:
    """Which database a parsed DSN names."""
    return "sqlite" if url.get_backend_name() == "sqlite" else "postgresql"


def sqlite_path(url: URL) -> Path:
    """The file of a SQLite store."""
    return Path(url.database or "")


def make_engine(url: URL, options: Mapping[str, Any] | None = None) -> Engine:
    """An engine for the store; ``options`` go to `sqlalchemy.create_engine` over our own.

    On SQLite a transaction begins with BEGIN, or with BEGIN IMMEDIATE where the execution option ``writes`` is set. On PostgreSQL it
    sees nothing that has an owner without the execution options of `wall.seeing`.
    """
    if kind_of(url) == "sqlite":
        return _sqlite_engine(url, options or {})
    engine = sqlalchemy.create_engine(
        url, **{**_COMMON, "pool_pre_ping": True, "connect_args": _POSTGRES_CONNECT, **(options or {})}
    )
    event.listen(engine, "connect", _set_up_postgres)
    event.listen(engine, "begin", wall.begin)
    return engine


def create_private_file(path: Path) -> None:
    """Make the database's file, readable by this user only, where there is none: SQLite gives its WAL the same mode.

    Raises StoreUnreachable.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnreachable(error.strerror or "its file cannot be opened") from error


def check_durability(connection: Connection) -> None:
    """Read back what makes a COMMIT durable. Raises DurabilityRefused.

    Needs a connection without an open transaction.
    """
    if connection.dialect.name == "sqlite":
        wanted: dict[str, tuple[str, str]] = {
            "synchronous": ("PRAGMA synchronous", str(_FULL)),
            "journal_mode": ("PRAGMA journal_mode", "wal"),
        }
    else:
        wanted = {name: (f"SHOW {name}", "on") for name in ("synchronous_commit", "fsync", "full_page_writes")}
    for setting, (question, answer) in wanted.items():
        found = str(connection.exec_driver_sql(question).scalar_one())
        if found != answer:
            raise DurabilityRefused(setting, found, answer)


def _sqlite_engine(url: URL, options: Mapping[str, Any]) -> Engine:
    # The driver's own transactions are off (isolation_level None): its default mode loses concurrent updates silently.
    connect = {"isolation_level": None, "timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    engine = sqlalchemy.create_engine(url, **{**_COMMON, "connect_args": connect, **options})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    run_on_sqlite(connection, "BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


def _set_up_postgres(connection: Any, _record: object) -> None:
    # For the session, over what the role or the database may be set to.
    connection.execute("SET synchronous_commit TO on")
    connection.commit()
