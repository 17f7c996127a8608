"""The log of moved marks: one row a commit, until the table of marks is brought up to date.

To change a row for each batch of each Tenant costs more than all else that a commit of metrics writes. So a commit writes down side by
side where marks have moved to, and the table follows when the log has grown long.
"""

import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

from sqlalchemy import Connection, delete, func, insert, select

from tenantry.master.sql.conditions import is_sqlite
from tenantry.master.sql.shortcut import run_on_sqlite
from tenantry.master.sql.tables import mark_moves as table
from tenantry.protocol.messages import CHAIN_BYTES, EPOCH_BYTES, Stream

MarkKey: TypeAlias = tuple[int, bytes, Stream]
"""Tenant, epoch, stream."""
Place: TypeAlias = tuple[int, bytes]
"""Last sequence number, and the chain behind it."""

_MOVE: Final = struct.Struct(f"<qBq{EPOCH_BYTES}s{CHAIN_BYTES}s")
_STREAMS: Final = (Stream.METRICS, Stream.ALERTS, Stream.NOTIFICATIONS)
_NUMBERS: Final = {stream: number for number, stream in enumerate(_STREAMS)}

_APPEND_SQLITE: Final = "INSERT INTO mark_moves (id, moves, data) VALUES (?, ?, ?)"
_append: Final = insert(table)
_in_order: Final = select(table.c.data).order_by(table.c.id)
_end: Final = select(func.coalesce(func.max(table.c.id + table.c.moves), 0))
_clear: Final = delete(table)


def append_moves(connection: Connection, before: int, moved: Mapping[MarkKey, Place]) -> None:
    """Write down where some marks are now; ``before``: how many moves the log has."""
    pack, numbers = _MOVE.pack, _NUMBERS
    data = b"".join(
        [
            pack(tenant_id, numbers[stream], seq, epoch, chain)
            for (tenant_id, epoch, stream), (seq, chain) in moved.items()
        ]
    )
    if is_sqlite(connection):
        run_on_sqlite(connection, _APPEND_SQLITE, (before, len(moved), data))
    else:
        connection.execute(_append, {"id": before, "moves": len(moved), "data": data})


def read_moves(connection: Connection) -> dict[MarkKey, Place]:
    """Where the marks are that have moved since the table was up to date."""
    places: dict[MarkKey, Place] = {}
    for data in connection.execute(_in_order).scalars():
        for tenant_id, number, seq, epoch, chain in _MOVE.iter_unpack(data):
            places[tenant_id, epoch, _STREAMS[number]] = seq, chain
    return places


def count_moves(connection: Connection) -> int:
    """How many moves are in the log, or a few more: those of a part that was undone are counted as well."""
    return int(connection.execute(_end).scalar_one())


def clear_moves(connection: Connection) -> None:
    """Forget the log: the table is up to date."""
    connection.execute(_clear)
