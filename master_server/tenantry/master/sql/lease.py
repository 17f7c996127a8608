"""The lease that keeps a second Master away from a store."""

import hashlib
import time
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from tenantry.master.sql.refusals import StoreInUse, StoreUnreachable
from tenantry.process.files import LeaseHeld, LockedFile, exclusive_lock

_LOCK: Final = int.from_bytes(hashlib.sha256(b"tenantry.master.store").digest()[:8], "big", signed=True)
_POLL_S: Final = 0.05

_TRY: Final = text("SELECT pg_try_advisory_lock(:lock)")
_ME: Final = text("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
_END: Final = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid AND backend_start::text = :started"
)


class Session(NamedTuple):
    """A session of PostgreSQL that holds, or held, the lease."""

    pid: int
    started: str


def lease_file(database: Path) -> LockedFile:
    """Take the lease on a SQLite store: a lock on a file beside it. Raises StoreInUse, StoreUnreachable."""
    try:
        return exclusive_lock(database.with_name(f"{database.name}.lock"))
    except LeaseHeld as error:
        raise StoreInUse(error.pid) from error
    except OSError as error:
        raise StoreUnreachable(error.strerror or "its lock cannot be opened") from error


def lease_session(connection: Connection, former: Session | None, patience_s: float) -> Session:
    """Take the lease on a PostgreSQL store for as long as this session lives. Raises StoreInUse.

    ``former`` is this Master's own session before the connection was lost: the server may not have noticed yet, so it
    is ended. Waits up to ``patience_s`` seconds, since the end of a session takes the server a moment.
    """
    deadline = time.monotonic() + patience_s
    if former is not None:
        connection.execute(_END, {"pid": former.pid, "started": former.started})
    while not connection.execute(_TRY, {"lock": _LOCK}).scalar_one():
        if time.monotonic() >= deadline:
            raise StoreInUse
        time.sleep(_POLL_S)
    pid, started = connection.execute(_ME).one()
    connection.commit()
    return Session(pid, started)
