"""High-water marks: how far each stream of each Tenant's spool is stored."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update

from tenantry.master.sql.conditions import is_sqlite
from tenantry.master.sql.conflicts import InsertMissing
from tenantry.master.sql.tables import marks as table
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.messages import CHAIN_START, Stream

_insert: Final = InsertMissing(table)
_fence: Final = update(table).where(table.c.tenant_id == bindparam("tenant")).values(incarnation=bindparam("newest"))
_of: Final = select(table.c.stream, table.c.last_seq, table.c.chain).where(
    table.c.tenant_id == bindparam("tenant"), table.c.epoch == bindparam("wanted")
)
_epochs: Final = (
    select(table.c.epoch)
    .where(table.c.tenant_id == bindparam("tenant"))
    .group_by(table.c.epoch)
    .order_by(func.max(table.c.opened).desc(), table.c.epoch)
)
# The one statement that runs for every batch of every Tenant, so each database gets the form that costs it least:
# SQLite a prepared statement and plain tuples (a third of what Core's parameters cost), PostgreSQL one round trip.
_ADVANCE_SQLITE: Final = (
    "UPDATE marks SET last_seq = ?, chain = ?"
    " WHERE tenant_id = ? AND epoch = ? AND stream = ? AND last_seq = ? AND incarnation = ?"
)
_ADVANCE_POSTGRESQL: Final = (
    "UPDATE marks SET last_seq = move.to_seq, chain = move.chain"
    " FROM unnest(%s::bigint[], %s::bytea[], %s::bigint[], %s::bytea[], %s::text[], %s::bigint[], %s::bigint[])"
    " AS move(to_seq, chain, tenant_id, epoch, stream, from_seq, incarnation)"
    " WHERE marks.tenant_id = move.tenant_id AND marks.epoch = move.epoch AND marks.stream = move.stream"
    " AND marks.last_seq = move.from_seq AND marks.incarnation = move.incarnation"
)

_NAMES: Final = {stream: stream.value for stream in Stream}


class MarkMove(NamedTuple):
    """One mark goes from ``from_seq`` to ``to_seq``, if the link with ``incarnation`` is still the newest."""

    tenant_id: int
    stream: Stream
    epoch: bytes
    incarnation: int
    from_seq: int
    to_seq: int
    chain: bytes


class MarksMoved(Exception):
    """At least one mark is not where a move begins, or a newer link has taken over; nothing of the transaction counts."""

    def __init__(self, expected: int, moved: int) -> None:
        super().__init__(f"{moved} of {expected} marks could be moved")


class MarkStore:
    """Marks by Tenant, epoch of the spool, and stream."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, tenant_id: int, epoch: bytes, incarnation: int) -> None:
        """Let the link with ``incarnation`` move the Tenant's marks, and no other; those of a new epoch begin at 0."""
        self._connection.execute(
            _insert.on(self._connection),
            [
                {
                    "tenant_id": tenant_id,
                    "epoch": epoch,
                    "stream": stream.value,
                    "last_seq": 0,
                    "chain": CHAIN_START,
                    "incarnation": incarnation,
                    "opened": incarnation,
                }
                for stream in Stream
            ],
        )
        self._connection.execute(_fence, {"tenant": tenant_id, "newest": incarnation})

    def of(self, tenant_id: int, epoch: bytes) -> dict[Stream, HighWater]:
        """The marks of one epoch; empty when it was never opened."""
        rows = self._connection.execute(_of, {"tenant": tenant_id, "wanted": epoch})
        return {Stream(stream): HighWater(last_seq, chain) for stream, last_seq, chain in rows}

    def epochs(self, tenant_id: int) -> list[bytes]:
        """The epochs of a Tenant's spools, newest first."""
        return list(self._connection.execute(_epochs, {"tenant": tenant_id}).scalars())

    def advance(self, moves: Sequence[MarkMove]) -> None:
        """Move marks, each at most once, all or none.

        Raises MarksMoved, after which the transaction is to be rolled back.
        """
        if not moves:
            return
        rows = [
            (to_seq, chain, tenant_id, epoch, _NAMES[stream], from_seq, incarnation)
            for tenant_id, stream, epoch, incarnation, from_seq, to_seq, chain in moves
        ]
        if is_sqlite(self._connection):
            result = self._connection.exec_driver_sql(_ADVANCE_SQLITE, rows)
        else:
            columns = tuple(list(column) for column in zip(*rows, strict=True))
            result = self._connection.exec_driver_sql(_ADVANCE_POSTGRESQL, columns)
        if result.rowcount != len(moves):
            raise MarksMoved(len(moves), result.rowcount)
