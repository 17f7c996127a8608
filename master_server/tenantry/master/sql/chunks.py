"""Chunks: compacted metrics, one run of ticks of one Tenant and layout each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Connection, and_, bindparam, delete, func, insert, or_, select, tuple_

from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import chunks as table
from tenantry.master.sql.totals import add_total, read_total
from tenantry.master.timeseries.compaction import Chunk

_TOTAL: Final = "chunks"
_LAST_NUMBER: Final = (1 << 63) - 1

_columns: Final[tuple[Column[Any], ...]] = (
    table.c.tenant_id,
    table.c.layout_id,
    table.c.ticks,
    table.c.samples,
    table.c.first_timestamp,
    table.c.last_timestamp,
    table.c.first_received_at,
    table.c.last_received_at,
    table.c.data,
    table.c.id,
)
_insert: Final = insert(table)
_received_after: Final = (
    select(*_columns)
    .where(
        and_(
            table.c.last_received_at >= bindparam("received"),
            or_(table.c.last_received_at > bindparam("received"), table.c.id > bindparam("number")),
        )
    )
    .order_by(table.c.last_received_at, table.c.id)
    .limit(bindparam("most"))
)
_newest_received: Final = select(func.coalesce(func.max(table.c.last_received_at), 0))
_erase: Final = (
    delete(table)
    .where(
        table.c.id.in_(
            select(table.c.id)
            .where(table.c.last_timestamp < bindparam("before"))
            .order_by(table.c.last_timestamp)
            .limit(bindparam("most"))
        )
    )
    .returning(table.c.samples, func.length(table.c.data))
)
_oldest: Final = select(func.min(table.c.first_timestamp))
_newest: Final = select(func.max(table.c.last_timestamp))
_counted: Final = select(
    func.coalesce(func.sum(table.c.samples), 0),
    func.coalesce(func.sum(func.length(table.c.data)), 0),
    func.min(table.c.first_timestamp),
    func.max(table.c.last_timestamp),
)


@dataclass(frozen=True, slots=True)
class StoredChunk(Chunk):
    """A chunk as read."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class ChunkTotals:
    """What all chunks hold; event times in Unix milliseconds, None when there are none."""

    samples: int
    bytes: int
    oldest_ms: int | None
    newest_ms: int | None


class ChunkStore:
    """Chunks by Tenant, layout and time."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, chunks: Sequence[Chunk]) -> None:
        """Store chunks."""
        if not chunks:
            return
        names = [column.name for column in _columns[:-1]]
        self._connection.execute(_insert, [{name: getattr(chunk, name) for name in names} for chunk in chunks])
        samples = sum(chunk.samples for chunk in chunks)
        add_total(self._connection, _TOTAL, samples, sum(len(chunk.data) for chunk in chunks))

    def find(
        self,
        tenant_ids: Collection[int] | None,
        layout_ids: Collection[int] | None,
        start_ms: int | None,
        end_ms: int | None,
        newest_first: bool,
        after: tuple[int, int] | None,
        limit: int,
        *,
        max_span_ms: int | None = None,
    ) -> list[StoredChunk]:
        """At most ``limit`` chunks that have ticks with ``start_ms <= timestamp < end_ms``, or may have.

        Newest first they are ordered by (last_timestamp, id) descending, otherwise by (first_timestamp, id): no later
        chunk has a tick beyond the one that orders the chunk at hand. ``after`` is this pair of the last chunk read.
        ``max_span_ms`` says that no chunk is longer, which keeps the search from all that is older or newer.
        """
        conditions = []
        if tenant_ids is not None:
            conditions.append(any_of(self._connection, table.c.tenant_id, tenant_ids))
        if layout_ids is not None:
            conditions.append(any_of(self._connection, table.c.layout_id, layout_ids))
        if start_ms is not None:
            conditions.append(table.c.last_timestamp >= start_ms)
        if end_ms is not None:
            conditions.append(table.c.first_timestamp < end_ms)
        if max_span_ms is not None:
            if start_ms is not None:
                conditions.append(table.c.first_timestamp >= start_ms - max_span_ms)
            if end_ms is not None:
                conditions.append(table.c.last_timestamp < end_ms + max_span_ms)
        if newest_first:
            place = tuple_(table.c.last_timestamp, table.c.id)
            order: tuple[Any, ...] = (table.c.last_timestamp.desc(), table.c.id.desc())
            if after is not None:
                conditions.append(place < tuple_(*after))
        else:
            place = tuple_(table.c.first_timestamp, table.c.id)
            order = (table.c.first_timestamp, table.c.id)
            if after is not None:
                conditions.append(place > tuple_(*after))
        query = select(*_columns).where(*conditions).order_by(*order).limit(limit)
        return [StoredChunk(*row) for row in self._connection.execute(query)]

    def received_after(self, received_ms: int, limit: int, *, after_id: int | None = None) -> list[StoredChunk]:
        """At most ``limit`` chunks whose newest tick was received after this time, by that time.

        With ``after_id`` also those of exactly this time whose number is higher.
        """
        number = _LAST_NUMBER if after_id is None else after_id
        rows = self._connection.execute(_received_after, {"received": received_ms, "number": number, "most": limit})
        return [StoredChunk(*row) for row in rows]

    def received_between(
        self,
        first_ms: int,
        last_ms: int,
        tenant_ids: Collection[int] | None,
        after: tuple[int, int] | None,
        limit: int,
        *,
        max_span_ms: int,
    ) -> list[StoredChunk]:
        """At most ``limit`` chunks that may have ticks with ``first_ms <= received_at <= last_ms``.

        They are ordered by (last_received_at, id); ``after`` is this pair of the last chunk read. ``max_span_ms`` says
        that no chunk's times of receipt lie further apart.
        """
        place = tuple_(table.c.last_received_at, table.c.id)
        query = select(*_columns).where(
            table.c.last_received_at >= first_ms,
            table.c.last_received_at <= last_ms + max_span_ms,
            table.c.first_received_at <= last_ms,
        )
        if tenant_ids is not None:
            query = query.where(any_of(self._connection, table.c.tenant_id, tenant_ids))
        if after is not None:
            query = query.where(place > tuple_(*after))
        query = query.order_by(table.c.last_received_at, table.c.id).limit(limit)
        return [StoredChunk(*row) for row in self._connection.execute(query)]

    def newest_received_ms(self) -> int:
        """When the newest tick of any chunk was received; 0 when there is none."""
        return int(self._connection.execute(_newest_received).scalar_one())

    def erase_before(self, last_timestamp_ms: int, limit: int) -> int:
        """Erase at most ``limit`` chunks whose newest tick is before this time; gives how many."""
        erased = self._connection.execute(_erase, {"before": last_timestamp_ms, "most": limit}).all()
        if erased:
            samples = sum(samples for samples, _ in erased)
            add_total(self._connection, _TOTAL, -samples, -sum(octets for _, octets in erased))
        return len(erased)

    def totals(self, tenant_ids: Collection[int] | None = None) -> ChunkTotals:
        """What all chunks hold together, without counting; or, counted, those of these Tenants."""
        if tenant_ids is not None:
            query = _counted.where(any_of(self._connection, table.c.tenant_id, tenant_ids))
            samples, octets, first, last = self._connection.execute(query).one()
            return ChunkTotals(int(samples), int(octets), first, last)
        total = read_total(self._connection, _TOTAL)
        oldest = self._connection.execute(_oldest).scalar_one()
        newest = self._connection.execute(_newest).scalar_one()
        return ChunkTotals(total.records, total.bytes, oldest, newest)
