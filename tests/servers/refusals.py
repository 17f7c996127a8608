"""What a refused request must look like, and that it changed nothing."""

import contextlib
import functools
import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantry.protocol.failures import Failure
from tenantry.transport.statuses import failure_of
from tests.servers.master import MasterProcess

VOLATILE = frozenset({"contacts", "layouts", "totals", "audit_chain", "audit_heads"})
"""Tables that links change all the time, heartbeats and layouts, sums of the others, and where the audit stands."""

_MOVING = {"tenants": ("connectivity", "connectivity_since_ms", "leave"), "tokens": ("last_used_ms",)}
"""Columns that change by themselves: when links end, and when calls are made."""


_STAYS = {"records": "stream <> 'auditMessages'", "settings": "name NOT IN ('stream_sizes', 'window_rules')"}
"""The rows that only a call changes: the Master itself writes down how large its streams are, and how far rules have read them."""

REPORTED = (
    "confirmed_incarnation",
    "running_configuration",
    "failed_configuration",
    "configuration_failure",
    "trust_bundle_hash",
)
"""Columns of Tenants that daemons' messages change, a moment after they were sent, and no call of the API does."""


@contextlib.contextmanager
def refused(kind: type[Failure], **metadata: str) -> Iterator[None]:
    """The block must be refused with this failure: its code, its reason, its facts, a message and a hint without holes."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    check_refusal(caught.value, kind, **metadata)


def check_refusal(error: grpc.RpcError, kind: type[Failure], **metadata: str) -> Failure:
    """The failure in an error, which must be of this kind and complete."""
    assert isinstance(error, grpc.aio.AioRpcError | grpc.Call)
    failure = failure_of(error)
    assert failure is not None, f"{error.code()} without a reason of ours: {error.details()}"
    assert failure.reason == kind.reason, failure.describe()
    assert error.code().name == kind.code
    assert error.details() == failure.describe()
    assert "?" not in failure.describe() and "?" not in failure.advise()
    assert {name: failure.metadata.get(name) for name in metadata} == metadata
    return failure


def snapshot(
    master: MasterProcess, without: Collection[str] = VOLATILE, reported: Collection[str] = ()
) -> dict[str, list[Any]]:
    """Every table of a Master on SQLite, row by row, as committed now.

    But not the audit, which grows with each refusal, nor what changes by itself, such as connectivity when a link of an
    earlier test has ended. ``reported``: columns of Tenants to leave out as well, where links of earlier tests may still report.
    """
    connection = sqlite3.connect(f"file:{master.data / 'master.db'}?mode=ro", uri=True)
    with contextlib.closing(connection):
        schema = "SELECT group_concat(sql, ';') FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        statements = _statements(connection.execute(schema).fetchone()[0], frozenset(without), frozenset(reported))
        return {
            table: [row for row in connection.execute(statement) if not _moves(row)]
            for table, statement in statements.items()
        }


@functools.cache
def _statements(schema: str, without: frozenset[str], reported: frozenset[str]) -> dict[str, str]:
    """What reads each table. Found out once: tests take thousands of snapshots of the same tables."""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(schema)
        names = [name for (name,) in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: _select(empty, name, reported)
            for name in sorted(names)
            if name not in without and not name.startswith("sqlite_")
        }


def _select(connection: sqlite3.Connection, table: str, reported: Collection[str]) -> str:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    moving = (*_MOVING.get(table, ()), *(reported if table == "tenants" else ()))
    statement = f"SELECT {', '.join(column for column in columns if column not in moving)} FROM {table}"
    return f"{statement} WHERE {_STAYS[table]}" if table in _STAYS else statement


def _moves(row: tuple[Any, ...]) -> bool:
    for stream, word in (("tenantStatusHistory", '"connectivity"'), ("alerts", '"connection lost"')):
        if stream in row:
            return any(isinstance(value, str) and word in value for value in row)
    return "auditMessages" in row


def records_of(master: MasterProcess, stream: str, containing: str = "") -> list[str]:
    """The stored fields (JSON text) of a stream's records that contain a text, oldest first."""
    connection = sqlite3.connect(f"file:{master.data / 'master.db'}?mode=ro", uri=True)
    with contextlib.closing(connection):
        rows = connection.execute("SELECT fields FROM records WHERE stream = ? ORDER BY position", (stream,))
        return [fields for (fields,) in rows if containing in fields]
