"""High-water marks: how far each stream of each Tenant's spool is stored.

The truth is the table with the log of moves (`mark_moves`) over it, which change in one transaction with the rows that they speak of.
The one who writes keeps in memory what it has read of both (`MarkBook`), so that a move is checked without asking the database. That
memory counts only while all transactions end well: after one that did not, it is read anew.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, update

from tenantry.master.sql.conditions import any_of, is_sqlite
from tenantry.master.sql.mark_moves import MarkKey, Place, append_moves, clear_moves, count_moves, read_moves
from tenantry.master.sql.shortcut import run_on_sqlite
from tenantry.master.sql.tables import marks as table
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.messages import CHAIN_START, Stream

LONG_LOG: Final = 65_536
"""Moves in the log from which on the table is brought up to date."""
MOVES_A_TENANT: Final = 16
"""With many Tenants only when each has so many in it: the table then changes a sixteenth as often as marks move."""

_insert: Final = insert(table)
_fence: Final = update(table).where(table.c.tenant_id == bindparam("tenant")).values(incarnation=bindparam("newest"))
_all: Final = select(
    table.c.tenant_id, table.c.epoch, table.c.stream, table.c.last_seq, table.c.chain, table.c.incarnation
)
_epochs: Final = (
    select(table.c.epoch)
    .where(table.c.tenant_id == bindparam("tenant"))
    .group_by(table.c.epoch)
    .order_by(func.max(table.c.opened).desc(), table.c.epoch)
)
# When a link opens. In a storm thousands do: there a statement that is made anew for each costs more than all else of it.
_ALL_SQLITE: Final = "SELECT tenant_id, epoch, stream, last_seq, chain, incarnation FROM marks WHERE tenant_id = ?"
_FENCE_SQLITE: Final = "UPDATE marks SET incarnation = ? WHERE tenant_id = ?"
# Thousands at once, so each database gets the form that costs it least: SQLite a prepared statement and plain tuples, PostgreSQL one
# round trip.
_SETTLE_SQLITE: Final = "UPDATE marks SET last_seq = ?, chain = ? WHERE tenant_id = ? AND epoch = ? AND stream = ?"
_SETTLE_POSTGRESQL: Final = (
    "UPDATE marks SET last_seq = move.seq, chain = move.chain"
    " FROM unnest(%s::bigint[], %s::bytea[], %s::bigint[], %s::bytea[], %s::text[]) AS move(seq, chain, tenant_id, epoch, stream)"
    " WHERE marks.tenant_id = move.tenant_id AND marks.epoch = move.epoch AND marks.stream = move.stream"
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


@dataclass(slots=True, eq=False)
class MarkBook:
    """What is known of the marks: of each Tenant in ``fences`` all, of others what the log says."""

    places: dict[MarkKey, Place]
    logged: int
    """Moves in the log, or a few more, which numbers its next row."""
    fences: dict[int, int] = field(default_factory=dict)
    """By Tenant the incarnation of the newest link, the one that may move its marks."""

    @property
    def log_is_long(self) -> bool:
        """Whether it is time to bring the table up to date."""
        return self.logged >= max(LONG_LOG, MOVES_A_TENANT * len(self.fences))


class MarkStore:
    """Marks by Tenant, epoch of the spool, and stream."""

    __slots__ = ("_book", "_connection", "_undo")

    def __init__(self, connection: Connection, book: MarkBook | None = None) -> None:
        """``book``: what the last transaction has left, if it is the truth; else it is read where it is needed."""
        self._connection = connection
        self._book = book
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    def open(self, tenant_id: int, epoch: bytes, incarnation: int) -> None:
        """Let the link with ``incarnation`` move the Tenant's marks, and no other; those of a new epoch begin at 0."""
        book = self._known([tenant_id])
        new = [stream for stream in Stream if (tenant_id, epoch, stream) not in book.places]
        if new:
            self._connection.execute(
                _insert,
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
                    for stream in new
                ],
            )
        if is_sqlite(self._connection):
            run_on_sqlite(self._connection, _FENCE_SQLITE, (incarnation, tenant_id))
        else:
            self._connection.execute(_fence, {"tenant": tenant_id, "newest": incarnation})
        self._set(book.fences, tenant_id, incarnation)
        for stream in new:
            self._set(book.places, (tenant_id, epoch, stream), (0, CHAIN_START))

    def of(self, tenant_id: int, epoch: bytes) -> dict[Stream, HighWater]:
        """The marks of one epoch; empty when it was never opened."""
        places = self._known([tenant_id]).places
        return {
            stream: HighWater(*places[tenant_id, epoch, stream])
            for stream in Stream
            if (tenant_id, epoch, stream) in places
        }

    def epochs(self, tenant_id: int) -> list[bytes]:
        """The epochs of a Tenant's spools, newest first."""
        return list(self._connection.execute(_epochs, {"tenant": tenant_id}).scalars())

    def advance(self, moves: Sequence[MarkMove]) -> None:
        """Move marks, each at most once, all or none.

        Raises MarksMoved, after which the transaction is to be rolled back.
        """
        if not moves:
            return
        book = self._known([move.tenant_id for move in moves])
        places, fence = book.places, book.fences.get
        moved: dict[MarkKey, Place] = {}
        for tenant_id, stream, epoch, incarnation, from_seq, to_seq, chain in moves:
            key = tenant_id, epoch, stream
            place = places.get(key)
            if place is not None and place[0] == from_seq and fence(tenant_id) == incarnation:
                moved[key] = to_seq, chain
        if len(moved) != len(moves):
            raise MarksMoved(len(moves), len(moved))
        append_moves(self._connection, book.logged, moved)
        self._undo += [(places, key, places[key]) for key in moved]
        places.update(moved)
        book.logged += len(moved)

    # --- what the one who writes remembers --------------------------------------------------------------------------------

    @property
    def tip(self) -> int:
        """Where `rewind` goes back to."""
        return len(self._undo)

    def rewind(self, tip: int) -> None:
        """Forget what was done since: the database has undone it."""
        while len(self._undo) > tip:
            known, key, before = self._undo.pop()
            if before is None:
                del known[key]
            else:
                known[key] = before

    def settle(self) -> MarkBook | None:
        """At the end of a transaction: keep the log short. What is known, for the next one if this one is committed."""
        if self._book is not None and self._book.log_is_long:
            self._bring_up_to_date()
            self._book.logged = 0
        return self._book

    def _known(self, tenant_ids: Collection[int]) -> MarkBook:
        """All that there is of these Tenants is in the book."""
        book = self._book
        if book is None:
            book = self._book = MarkBook(read_moves(self._connection), count_moves(self._connection))
        missing = set(tenant_ids).difference(book.fences)
        for tenant_id, epoch, stream, last_seq, chain, incarnation in self._read(missing) if missing else ():
            key = tenant_id, epoch, Stream(stream)
            if key not in book.places:  # the log knows better
                self._set(book.places, key, (last_seq, chain))
            self._set(book.fences, tenant_id, incarnation)
        return book

    def _read(self, tenant_ids: Collection[int]) -> Iterable[Sequence[Any]]:
        """The rows of these Tenants in the table."""
        if is_sqlite(self._connection):
            return [
                row
                for tenant_id in tenant_ids
                for row in run_on_sqlite(self._connection, _ALL_SQLITE, (tenant_id,)).fetchall()
            ]
        return self._connection.execute(_all.where(any_of(self._connection, table.c.tenant_id, tenant_ids)))

    def _set(self, known: dict[Any, Any], key: object, value: object) -> None:
        self._undo.append((known, key, known.get(key)))
        known[key] = value

    def _bring_up_to_date(self) -> None:
        rows = [
            (seq, chain, tenant_id, epoch, stream.value)
            for (tenant_id, epoch, stream), (seq, chain) in read_moves(self._connection).items()
        ]
        if is_sqlite(self._connection):
            self._connection.exec_driver_sql(_SETTLE_SQLITE, rows)
        else:
            self._connection.exec_driver_sql(
                _SETTLE_POSTGRESQL, tuple(list(column) for column in zip(*rows, strict=True))
            )
        clear_moves(self._connection)
