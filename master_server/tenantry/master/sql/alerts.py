"""Alerts, what happened to each, and the copies of records that are kept with them."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from tenantry.detection.levels import Level
from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Sight
from tenantry.master.domain.alerts import (
    Alert,
    AlertChange,
    AlertFilter,
    AlertOrder,
    AlertSource,
    AlertStatus,
    ChangeKind,
    Classification,
    RecordCopy,
)
from tenantry.master.domain.records import StreamName
from tenantry.master.sql.alert_conditions import conditions_of
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of, is_sqlite
from tenantry.master.sql.documents import read_fields, write_fields
from tenantry.master.sql.prepared import Prepared, PreparedLists
from tenantry.master.sql.tables import alert_changes, alert_copies
from tenantry.master.sql.tables import alerts as table
from tenantry.protocol.failures import AlertNotFound

Key = tuple[str | int, ...]
"""Where a page ends: what it is ordered by, with the id."""


class PlacedCopy(NamedTuple):
    """A copy with its place at an alert; the one that is there gives way. ``number`` counts all copies that were ever made."""

    alert_id: int
    owner: int
    slot: int
    number: int
    copy: RecordCopy


def _upsert(dialect: Any) -> Any:
    statement = dialect.insert(alert_copies)
    changing = ("number", "stream", "timestamp_ms", "fields")
    return statement.on_conflict_do_update(
        index_elements=("alert_id", "slot"), set_={name: statement.excluded[name] for name in changing}
    )


_attach: Final = Prepared(_upsert(postgresql), (column.key for column in alert_copies.c), _upsert(sqlite))
_all: Final = select(table)
_by_uid: Final = _all.where(table.c.uid == bindparam("wanted"))
_filled_by: Final = PreparedLists(_all, table.c.filling_key)
_left_standing: Final = PreparedLists(
    _all.where(table.c.standing > 0, table.c.filling_key.is_(None)).order_by(table.c.id),
    table.c.owner,
    table.c.rule_id,
)
_MUTABLE: Final = frozenset(column.key for column in table.c) - {
    "id", "uid", "owner", "tenant_id", "source", "rule_id", "opened_ms"
}  # fmt: skip
_insert: Final = insert(table).returning(table.c.id, sort_by_parameter_order=True)
_insert_one: Final = Prepared(
    insert(table).returning(table.c.id), (column.key for column in table.c if column.key != "id")
)
_save: Final = Prepared(update(table).where(table.c.id == bindparam("itself")), _MUTABLE)
_newest_revision: Final = Prepared(select(func.coalesce(func.max(table.c.revision), 0)))
_after: Final = _all.where(table.c.revision > bindparam("after")).order_by(table.c.revision)
_note: Final = Prepared(insert(alert_changes), (column.key for column in alert_changes.c if column.key != "id"))
MOST_CHANGES: Final = 2_000
"""So many of the newest changes of an alert are read: an answer has to fit into a message, whoever changes it how often."""
_changes: Final = (
    select(alert_changes)
    .where(alert_changes.c.alert_id == bindparam("wanted"))
    .order_by(alert_changes.c.id.desc())
    .limit(MOST_CHANGES)
)
_copies: Final = (
    select(alert_copies).where(alert_copies.c.alert_id == bindparam("wanted")).order_by(alert_copies.c.number)
)
_open: Final = select(func.count()).where(
    table.c.owner == bindparam("at"), table.c.source == bindparam("by"), table.c.resolved_ms.is_(None)
)
_due: Final = (
    _all.where(table.c.muted_until_ms <= bindparam("now")).order_by(table.c.muted_until_ms).limit(bindparam("most"))
)
_next_unmuting: Final = select(func.min(table.c.muted_until_ms)).where(table.c.muted_until_ms.is_not(None))
_reconsider: Final = (
    update(table).where(table.c.muted_until_ms > bindparam("now")).values(muted_until_ms=bindparam("now"))
)
_unresolved: Final = _all.where(table.c.resolved_ms.is_(None)).order_by(table.c.id)
_others: Final = table.alias()
_old: Final = (
    select(table.c.id)
    # The newest revision stays: those that follow must never meet a number again.
    .where(
        table.c.resolved_ms < bindparam("before"),
        table.c.revision < select(func.max(_others.c.revision)).scalar_subquery(),
    )
    .order_by(table.c.resolved_ms)
    .limit(bindparam("most"))
)
_ORDERS: Final[dict[AlertOrder, tuple[tuple[ColumnElement[Any], ...], bool]]] = {
    AlertOrder.NEWEST: ((table.c.last_ms, table.c.uid), False),
    AlertOrder.OLDEST: ((table.c.first_ms, table.c.uid), True),
    AlertOrder.WORST: ((table.c.score, table.c.last_ms, table.c.uid), False),
}
"""By what, and whether it grows."""


def page_key(alert: Alert, order: AlertOrder) -> Key:
    """Where a page that ends with this alert goes on."""
    match order:
        case AlertOrder.NEWEST:
            return (alert.last_ms, alert.uid)
        case AlertOrder.OLDEST:
            return (alert.first_ms, alert.uid)
        case AlertOrder.WORST:
            return (alert.score, alert.last_ms, alert.uid)


class AlertStore:
    """Alerts by `Alert.uid`. Each change of one gives it a new revision, above those of all others."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    # --- writing ---------------------------------------------------------------------------------------------------------

    def insert(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Keep new alerts; they come back with the store's numbers, in their order."""
        if not alerts:
            return []
        rows, revision = [], self._next_revision()
        for place, alert in enumerate(alerts):
            rows.append(
                {
                    "uid": alert.uid,
                    "owner": alert.owner,
                    "tenant_id": alert.tenant_id,
                    "source": alert.source.value,
                    "rule_id": alert.rule_id,
                    "opened_ms": alert.opened_ms,
                    **_mutable(alert),
                    "revision": revision + place,
                }
            )
        connection = self._connection
        numbers: Sequence[int]
        if is_sqlite(connection):
            numbers = [_insert_one.rows(connection, **row)[0][0] for row in rows]
        else:
            numbers = connection.execute(_insert, rows).scalars().all()
        return [
            replace(alert, id=number, revision=revision + place)
            for place, (alert, number) in enumerate(zip(alerts, numbers, strict=True))
        ]

    def save(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Write what may change of alerts that are there; they come back with their new revisions."""
        if not alerts:
            return []
        revision = self._next_revision()
        rows = [
            {"itself": alert.id, **_mutable(alert), "revision": revision + place} for place, alert in enumerate(alerts)
        ]
        _save.run_many(self._connection, rows)
        return [replace(alert, revision=revision + place) for place, alert in enumerate(alerts)]

    def note(self, changes: Sequence[AlertChange]) -> None:
        """Write down what happened to alerts."""
        _note.run_many(
            self._connection,
            [
                {
                    "alert_id": change.alert_id,
                    "owner": change.owner,
                    "changed_ms": change.changed_ms,
                    "actor": change.actor,
                    "kind": change.kind.value,
                    "facts": write_fields(change.facts),
                }
                for change in changes
            ],
        )

    def attach(self, copies: Iterable[PlacedCopy]) -> None:
        """Keep copies of records at their places."""
        _attach.run_many(
            self._connection,
            [
                {
                    "alert_id": placed.alert_id,
                    "slot": placed.slot,
                    "number": placed.number,
                    "owner": placed.owner,
                    "stream": placed.copy.stream.value,
                    "timestamp_ms": placed.copy.timestamp_ms,
                    "fields": write_fields(placed.copy.fields),
                }
                for placed in copies
            ],
        )

    def erase_resolved_before(self, resolved_ms: int, limit: int) -> int:
        """Erase at most ``limit`` alerts that were resolved before this, with all that belongs to them; gives how many."""
        found = self._connection.execute(_old, {"before": resolved_ms, "most": limit}).scalars().all()
        if found:
            for part in (alert_copies, alert_changes):
                self._connection.execute(delete(part).where(any_of(self._connection, part.c.alert_id, found)))
            self._connection.execute(delete(table).where(any_of(self._connection, table.c.id, found)))
        return len(found)

    # --- reading ---------------------------------------------------------------------------------------------------------

    def get(self, uid: str) -> Alert:
        """The alert. Raises AlertNotFound."""
        row = self._connection.execute(_by_uid, {"wanted": uid}).one_or_none()
        if row is None:
            raise AlertNotFound(alert=uid)
        return _alert(row)

    def filled_by(self, keys: Collection[str]) -> dict[str, Alert]:
        """The alerts that firings with these keys fill, by `Alert.filling_key`."""
        found = map(_alert, _filled_by.rows(self._connection, keys))
        return {alert.filling_key: alert for alert in found}

    def left_standing(self, owners: Collection[int], rule_ids: Collection[str]) -> list[Alert]:
        """Those of these owners and rules that nothing fills any more, and of which something still stands."""
        return [_alert(row) for row in _left_standing.rows(self._connection, owners, rule_ids)]

    def count_open(self, owner: int, source: AlertSource) -> int:
        """How many alerts of this owner and source are not resolved."""
        return int(self._connection.execute(_open, {"at": owner, "by": source.value}).scalar_one())

    def unresolved_of(self, tenant_ids: Collection[int]) -> list[Alert]:
        """Those of these Tenants that are not resolved."""
        if not tenant_ids:
            return []
        return self._read(_unresolved.where(any_of(self._connection, table.c.tenant_id, tenant_ids)))

    def muted_until(self, now_ms: int, limit: int) -> list[Alert]:
        """At most ``limit`` alerts whose actions were held until now."""
        return self._read(_due, {"now": now_ms, "most": limit})

    def next_unmuting(self) -> int | None:
        """When the actions of an alert are held no longer (Unix ms); None where none are held."""
        found: int | None = self._connection.execute(_next_unmuting).scalar_one()
        return found

    def reconsider_muted(self, now_ms: int) -> None:
        """Let it be judged anew now which alerts are muted: their windows have changed."""
        self._connection.execute(_reconsider, {"now": now_ms})

    def page(
        self, wanted: AlertFilter, order: AlertOrder, after: Key | None, limit: int, sight: Sight = EVERYTHING
    ) -> list[Alert]:
        """At most ``limit`` alerts that match and are seen, in order, behind ``after`` (a `page_key`)."""
        columns, growing = _ORDERS[order]
        query = _all.where(*self._conditions(wanted, sight)).limit(limit)
        query = query.order_by(*(columns if growing else (column.desc() for column in columns)))
        if after is not None:
            place = tuple_(*columns)
            query = query.where(place > tuple_(*after) if growing else place < tuple_(*after))
        return self._read(query)

    def count(self, wanted: AlertFilter, sight: Sight = EVERYTHING) -> int:
        """How many alerts match and are seen."""
        query = select(func.count()).select_from(table).where(*self._conditions(wanted, sight))
        return int(self._connection.execute(query).scalar_one())

    def changed_after(
        self, revision: int, limit: int, wanted: AlertFilter, sight: Sight = EVERYTHING, *, matching: bool = False
    ) -> list[tuple[Alert, bool]]:
        """At most ``limit`` alerts within sight that changed after this revision, in that order, and whether each matches.

        ``matching``: only those that do.
        """
        matches = and_(true(), *self._conditions(wanted, EVERYTHING))
        query = _after.add_columns(matches.label("matches")).where(*self._seen(sight)).limit(limit)
        if matching:
            query = query.where(matches)
        return [(_alert(row), bool(row.matches)) for row in self._connection.execute(query, {"after": revision})]

    def newest_revision(self) -> int:
        """The revision of what changed last; 0 when nothing ever did."""
        return int(_newest_revision.scalars(self._connection)[0])

    def changes_of(self, alert: Alert) -> list[AlertChange]:
        """What happened to an alert, in that order; of much the newest."""
        found = [
            AlertChange(
                row.alert_id, row.owner, row.changed_ms, row.actor, ChangeKind(row.kind), read_fields(row.facts)
            )
            for row in self._connection.execute(_changes, {"wanted": alert.id})
        ]
        return found[::-1]

    def copies_of(self, alert: Alert) -> list[RecordCopy]:
        """The records that are kept with an alert, in the order in which they came."""
        return [
            RecordCopy(StreamName(row.stream), row.timestamp_ms, read_fields(row.fields))
            for row in self._connection.execute(_copies, {"wanted": alert.id})
        ]

    def _next_revision(self) -> int:
        # One writer at a time: nobody else takes it, nor those behind it.
        self._changes.alerts = True
        return self.newest_revision() + 1

    def _read(self, query: Any, parameters: dict[str, Any] | None = None) -> list[Alert]:
        return [_alert(row) for row in self._connection.execute(query, parameters or {})]

    def _seen(self, sight: Sight) -> list[ColumnElement[bool]]:
        if sight.tenant_ids is None:
            return []
        owners = sight.tenant_ids | {MAIN_OWNER} if sight.main else sight.tenant_ids
        return [any_of(self._connection, table.c.owner, owners)]

    def _conditions(self, wanted: AlertFilter, sight: Sight) -> list[ColumnElement[bool]]:
        return [*self._seen(sight), *conditions_of(self._connection, wanted)]


def _mutable(alert: Alert) -> dict[str, Any]:
    return {
        "rule": alert.rule,
        "search": f"{alert.rule}\n{alert.message}".casefold(),
        "score": alert.score,
        "level": None if alert.level is None else int(alert.level),
        "message": alert.message,
        "fields": write_fields(alert.fields),
        "first_ms": alert.first_ms,
        "last_ms": alert.last_ms,
        "updated_ms": alert.updated_ms,
        "over_ms": alert.over_ms,
        "firings": alert.count,
        "late_firings": alert.late_count,
        "copies": alert.copies,
        "noted": alert.noted,
        "comments": alert.comments,
        "standing": len(alert.standing),
        "series": json.dumps(dict(alert.standing), separators=(",", ":")),
        "status": alert.status.value,
        "classification": alert.classification.value,
        "assignee": alert.assignee,
        "filling_key": alert.filling_key if alert.filling else None,
        "resolved_ms": alert.resolved_ms,
        "muted_by": alert.muted_by,
        "muted_until_ms": alert.muted_until_ms,
        "acted": alert.acted,
        "version": alert.version,
    }


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        uid=row.uid,
        owner=row.owner,
        tenant_id=row.tenant_id,
        source=AlertSource(row.source),
        rule=row.rule,
        rule_id=row.rule_id,
        score=row.score,
        level=None if row.level is None else Level(row.level),
        message=row.message,
        fields=read_fields(row.fields),
        first_ms=row.first_ms,
        last_ms=row.last_ms,
        opened_ms=row.opened_ms,
        updated_ms=row.updated_ms,
        over_ms=row.over_ms,
        count=row.firings,
        late_count=row.late_firings,
        copies=row.copies,
        noted=row.noted,
        comments=row.comments,
        standing=json.loads(row.series),
        status=AlertStatus(row.status),
        classification=Classification(row.classification),
        assignee=row.assignee,
        filling=row.filling_key is not None,
        resolved_ms=row.resolved_ms,
        muted_by=row.muted_by,
        muted_until_ms=row.muted_until_ms,
        acted=row.acted,
        version=row.version,
        revision=row.revision,
    )
