"""Records of all streams but the metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, delete, func, or_, select, tuple_, union_all

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.records import NewRecord, StoredRecord, StreamName
from tenantry.master.sql.audit_chain import AuditChainStore
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.conflicts import prepare_missing
from tenantry.master.sql.documents import read_fields, write_fields
from tenantry.master.sql.prepared import Prepared
from tenantry.master.sql.tables import records as table
from tenantry.master.sql.totals import add_total, read_total
from tenantry.protocol.failures import StoreUnavailable

_columns: Final = (
    table.c.position,
    table.c.stream,
    table.c.timestamp_ms,
    table.c.received_ms,
    table.c.tenant_id,
    table.c.fields,
)
_UNCHAINED: Final = {"chain_sequence": None, "chain_salt": None, "chain_hash": None}
_insert: Final = prepare_missing(table, frozenset({"position"}))
_greatest: Final = select(func.coalesce(func.max(table.c.position), 0))
_last_position: Final = Prepared(_greatest)
_newest_position: Final = _greatest.where(table.c.stream == bindparam("wanted"))
# Not grouped by the database: for that SQLite walks over a whole index, at each append.
_appended: Final = Prepared(
    select(table.c.stream, func.length(table.c.fields), table.c.position).where(table.c.position > bindparam("before"))
)
_position_before: Final = (
    select(table.c.position)
    .where(table.c.stream == bindparam("wanted"), table.c.received_ms < bindparam("before"))
    .order_by(table.c.position.desc())
    .limit(1)
)
_oldest: Final = select(func.min(table.c.timestamp_ms)).where(table.c.stream == bindparam("wanted"))
_newest: Final = select(func.max(table.c.timestamp_ms)).where(table.c.stream == bindparam("wanted"))
_summary: Final = select(
    func.count(),
    func.coalesce(func.sum(func.length(table.c.fields)), 0),
    func.min(table.c.timestamp_ms),
    func.max(table.c.timestamp_ms),
)
_erase: Final = (
    delete(table)
    .where(
        table.c.position.in_(
            select(table.c.position)
            .where(table.c.stream == bindparam("wanted"), table.c.timestamp_ms < bindparam("before"))
            .order_by(table.c.timestamp_ms)
            .limit(bindparam("most"))
        )
    )
    .returning(func.length(table.c.fields))
)

MAX_PARTS: Final = 32
"""A sight of so many Tenants is read Tenant by Tenant."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What a stream holds: bytes of payload, event times in Unix milliseconds (None when it is empty)."""

    records: int
    bytes: int
    oldest_ms: int | None
    newest_ms: int | None


class RecordStore:
    """Append-only records. A record's position is above those of all that were stored before it, in every stream."""

    __slots__ = ("_audit", "_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog, audit: AuditChainStore) -> None:
        self._connection = connection
        self._changes = changes
        self._audit = audit

    def append(self, records: Sequence[NewRecord]) -> int:
        """Store records; one whose Tenant, stream, epoch and seq are there already is left out. Those of the audit enter its chain.
        Raises StoreUnavailable where its end is not any more where this transaction found it.

        Gives the last position of the store, whether or not it is new.
        """
        connection = self._connection
        last = int(_last_position.scalars(connection)[0])
        if not records:
            return last
        chained = {record.tenant_id for record in records if record.stream is StreamName.AUDIT_MESSAGES}
        self._audit.recall([tenant_id for tenant_id in chained if tenant_id is not None])
        _insert.run_many(
            connection,
            [
                {
                    "stream": record.stream.value,
                    "timestamp_ms": record.timestamp_ms,
                    "received_ms": record.received_ms,
                    "tenant_id": record.tenant_id,
                    "epoch": record.epoch,
                    "seq": record.seq,
                    **self._payload(record),
                }
                for record in records
            ],
        )
        # What is new is read back rather than assumed: keys that were there are neither counted nor announced.
        new: dict[str, list[int]] = {}
        for stream, length, position in _appended.rows(connection, before=last):
            new.setdefault(stream, []).append(length)
            last = max(last, position)
        linked = sum(record.stream is StreamName.AUDIT_MESSAGES for record in records)
        if linked != len(new.get(StreamName.AUDIT_MESSAGES.value, ())):
            raise StoreUnavailable(cause="the audit was written to by somebody else at the same time")
        for stream, lengths in new.items():
            add_total(connection, stream, len(lengths), sum(lengths))
            self._changes.streams.add(StreamName(stream))
        return last

    def _payload(self, record: NewRecord) -> dict[str, Any]:
        if record.stream is StreamName.AUDIT_MESSAGES:
            return self._audit.link(record)
        return {"fields": write_fields(record.fields), **_UNCHAINED}

    def after(self, stream: StreamName, position: int, limit: int, sight: Sight = EVERYTHING) -> list[StoredRecord]:
        """At most ``limit`` records behind a position, in the order of storing."""
        query = self._of(stream, sight).where(table.c.position > position).order_by(table.c.position)
        return self._read(query.limit(limit))

    def page(
        self,
        stream: StreamName,
        sight: Sight,
        start_ms: int | None,
        end_ms: int | None,
        ascending: bool,
        after: tuple[int, int] | None,
        limit: int,
    ) -> list[StoredRecord]:
        """At most ``limit`` records with ``start_ms <= timestamp < end_ms``, by event time and then position.

        ``after`` is (timestamp_ms, position) of the last record of the page before.
        """
        place = tuple_(table.c.timestamp_ms, table.c.position)
        conditions: list[ColumnElement[bool]] = []
        if start_ms is not None:
            conditions.append(table.c.timestamp_ms >= start_ms)
        if end_ms is not None:
            conditions.append(table.c.timestamp_ms < end_ms)
        if after is not None:
            conditions.append(place > tuple_(*after) if ascending else place < tuple_(*after))

        def ordered(query: Select[Any], columns: Any) -> Select[Any]:
            keys = (columns.timestamp_ms, columns.position)
            return query.order_by(*(keys if ascending else (key.desc() for key in keys))).limit(limit)

        parts = _parts(sight)
        if parts is None:
            return self._read(ordered(self._of(stream, sight).where(*conditions), table.c))
        # A few Tenants among many: each one's own index has the page at hand, where the stream's would be searched for them.
        pages = [select(ordered(self._of(stream, part).where(*conditions), table.c).subquery()) for part in parts]
        merged = union_all(*pages).subquery()
        return self._read(ordered(select(merged), merged.c))

    def last(self, stream: StreamName, n: int, sight: Sight = EVERYTHING) -> list[StoredRecord]:
        """The ``n`` records that were stored last, in the order of storing."""
        query = self._of(stream, sight).order_by(table.c.position.desc()).limit(n)
        return self._read(query)[::-1]

    def newest_position(self, stream: StreamName) -> int:
        """The position of the record that was stored last; 0 when there is none."""
        return int(self._connection.execute(_newest_position, {"wanted": stream.value}).scalar_one())

    def position_before(self, stream: StreamName, received_ms: int) -> int:
        """The position of the last record that was received before this; 0 when there is none. Quick for what is not long ago."""
        earlier = {"wanted": stream.value, "before": received_ms}
        return self._connection.execute(_position_before, earlier).scalar_one_or_none() or 0

    def summary(self, stream: StreamName, sight: Sight = EVERYTHING) -> StreamSummary:
        """What the stream holds of what is seen: counted, unless all is seen."""
        if sight != EVERYTHING:
            conditions = (table.c.stream == stream.value, *self._seen(sight))
            records, octets, oldest, newest = self._connection.execute(_summary.where(*conditions)).one()
            return StreamSummary(records, int(octets), oldest, newest)
        wanted = {"wanted": stream.value}
        total = read_total(self._connection, stream.value)
        oldest = self._connection.execute(_oldest, wanted).scalar_one()
        newest = self._connection.execute(_newest, wanted).scalar_one()
        return StreamSummary(total.records, total.bytes, oldest, newest)

    def erase_before(self, stream: StreamName, timestamp_ms: int, limit: int) -> int:
        """Erase at most ``limit`` records whose event time is before this; gives how many.

        Not for the audit, of which only the begin may go: see `AuditChainStore.erase_before`.
        """
        sizes = (
            self._connection.execute(_erase, {"wanted": stream.value, "before": timestamp_ms, "most": limit})
            .scalars()
            .all()
        )
        if sizes:
            add_total(self._connection, stream.value, -len(sizes), -sum(sizes))
        return len(sizes)

    def _of(self, stream: StreamName, sight: Sight) -> Select[Any]:
        return select(*_columns).where(table.c.stream == stream.value, *self._seen(sight))

    def _seen(self, sight: Sight) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if sight.tenant_ids is not None:
            conditions.append(any_of(self._connection, table.c.tenant_id, sight.tenant_ids))
            if sight.main:
                conditions = [or_(*conditions, table.c.tenant_id.is_(None))]
        elif not sight.main:
            conditions.append(table.c.tenant_id.is_not(None))
        return conditions

    def _read(self, query: Select[Any]) -> list[StoredRecord]:
        return [_record(row) for row in self._connection.execute(query)]


def _parts(sight: Sight) -> list[Sight] | None:
    """A narrow sight Tenant by Tenant; None for one that is not narrow."""
    if sight.tenant_ids is None or len(sight.tenant_ids) > MAX_PARTS:
        return None
    parts = [Sight(frozenset({one}), main=False) for one in sorted(sight.tenant_ids)]
    if sight.main:
        parts.append(Sight(frozenset(), main=True))
    return parts or None


def _record(row: Row[*tuple[Any, ...]]) -> StoredRecord:
    position, stream, timestamp_ms, received_ms, tenant_id, fields = row
    return StoredRecord(position, StreamName(stream), timestamp_ms, received_ms, tenant_id, read_fields(fields))
