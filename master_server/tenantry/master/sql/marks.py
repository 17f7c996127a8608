"""High-water marks: how far each stream of each Tenant's spool is stored."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update

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
_advance: Final = (
    update(table)
    .where(
        table.c.tenant_id == bindparam("tenant"),
        table.c.epoch == bindparam("of_epoch"),
        table.c.stream == bindparam("of_stream"),
        table.c.last_seq == bindparam("from_seq"),
        table.c.incarnation == bindparam("holder"),
    )
    .values(last_seq=bindparam("to_seq"), chain=bindparam("after"))
)


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

    def open(self, tenant_id: int, epoch: bytes, incarnation: int) -> dict[Stream, HighWater]:
        """Let the link with ``incarnation`` move the Tenant's marks, and no other; gives the marks of its epoch."""
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
        return self.of(tenant_id, epoch)

    def of(self, tenant_id: int, epoch: bytes) -> dict[Stream, HighWater]:
        """The marks of one epoch; empty when it was never opened."""
        rows = self._connection.execute(_of, {"tenant": tenant_id, "wanted": epoch})
        return {Stream(stream): HighWater(last_seq, chain) for stream, last_seq, chain in rows}

    def epochs(self, tenant_id: int) -> list[bytes]:
        """The epochs of a Tenant's spools, newest first."""
        return list(self._connection.execute(_epochs, {"tenant": tenant_id}).scalars())

    def advance(self, moves: Sequence[MarkMove]) -> None:
        """Move marks, all or none: raises MarksMoved, after which the transaction is to be rolled back."""
        if not moves:
            return
        result = self._connection.execute(
            _advance,
            [
                {
                    "tenant": move.tenant_id,
                    "of_epoch": move.epoch,
                    "of_stream": move.stream.value,
                    "from_seq": move.from_seq,
                    "holder": move.incarnation,
                    "to_seq": move.to_seq,
                    "after": move.chain,
                }
                for move in moves
            ],
        )
        if result.rowcount != len(moves):
            raise MarksMoved(len(moves), result.rowcount)
