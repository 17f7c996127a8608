"""Maintenance windows, each with its owner."""

import json
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, or_, select, tuple_, update

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Sight
from tenantry.master.domain.windows import (
    Once,
    Recurring,
    Schedule,
    Scope,
    Window,
    WindowDraft,
    WindowFilter,
    end_of,
)
from tenantry.master.sql.conditions import any_of, contains
from tenantry.master.sql.prepared import Prepared
from tenantry.master.sql.tables import windows as table
from tenantry.protocol.failures import WindowNameTaken, WindowNotFound
from tenantry.protocol.messages import Severity

_all: Final = select(table)
_by_uid: Final = _all.where(table.c.uid == bindparam("wanted"))
_in_force: Final = Prepared(
    _all.where(table.c.active, or_(table.c.until_ms.is_(None), table.c.until_ms > bindparam("since"))).order_by(
        table.c.id
    )
)
_namesake: Final = select(table.c.id).where(
    table.c.owner == bindparam("at"), table.c.name == bindparam("wanted"), table.c.id != bindparam("itself")
)
_count: Final = select(func.count()).select_from(table)
_insert: Final = insert(table).returning(table.c.id)
_update: Final = update(table).where(table.c.id == bindparam("itself"))
_delete: Final = delete(table).where(table.c.id == bindparam("itself"))
_PLACE: Final = tuple_(table.c.name, table.c.uid)


class WindowStore:
    """Windows by `Window.uid`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, uid: str, owner: int, draft: WindowDraft, created_by: str, now_ms: int) -> Window:
        """Keep a new window. Raises WindowNameTaken."""
        self._check_name(owner, draft.name, 0)
        values = {
            "uid": uid,
            "owner": owner,
            "created_ms": now_ms,
            "created_by": created_by,
            "version": 1,
            "updated_ms": now_ms,
            **_columns(draft),
        }
        number = self._connection.execute(_insert, values).scalar_one()
        return Window(number, uid, owner, draft, 1, now_ms, created_by, now_ms)

    def get(self, uid: str) -> Window:
        """The window. Raises WindowNotFound."""
        row = self._connection.execute(_by_uid, {"wanted": uid}).one_or_none()
        if row is None:
            raise WindowNotFound(window=uid)
        return _window(row)

    def save(self, window: Window) -> None:
        """Write everything of a window that is there but its owner. Raises WindowNameTaken."""
        self._check_name(window.owner, window.name, window.id)
        values = {"version": window.version, "updated_ms": window.updated_ms, **_columns(window.draft)}
        self._connection.execute(_update, {"itself": window.id, **values})

    def delete(self, window: Window) -> None:
        """Forget a window."""
        self._connection.execute(_delete, {"itself": window.id})

    def in_force(self, since_ms: int) -> list[Window]:
        """Those that are active and not over for good at that moment, in the order in which they were made."""
        return [_window(row) for row in _in_force.rows(self._connection, since=since_ms)]

    def at(self, owner: int) -> list[Window]:
        """All windows of an owner."""
        return [_window(row) for row in self._connection.execute(_all.where(table.c.owner == owner))]

    def page(
        self, wanted: WindowFilter, after: tuple[str, str] | None, limit: int, sight: Sight = EVERYTHING
    ) -> list[Window]:
        """At most ``limit`` windows that match and are seen, behind a name and uid, by these."""
        query = _all.where(*self._conditions(wanted, sight)).order_by(table.c.name, table.c.uid).limit(limit)
        if after is not None:
            query = query.where(tuple_(*after) < _PLACE)
        return [_window(row) for row in self._connection.execute(query)]

    def count(self, wanted: WindowFilter, sight: Sight = EVERYTHING) -> int:
        """How many windows match and are seen."""
        return int(self._connection.execute(_count.where(*self._conditions(wanted, sight))).scalar_one())

    def count_at(self, owner: int) -> int:
        """How many windows an owner has."""
        return int(self._connection.execute(_count.where(table.c.owner == owner)).scalar_one())

    def count_of_tenants(self) -> int:
        """How many windows all Tenants have together."""
        return int(self._connection.execute(_count.where(table.c.owner > MAIN_OWNER)).scalar_one())

    def _check_name(self, owner: int, name: str, itself: int) -> None:
        # One writer at a time, as with rules; the unique constraint is the second net.
        if self._connection.execute(_namesake, {"at": owner, "wanted": name, "itself": itself}).first() is not None:
            raise WindowNameTaken(name=name)

    def _conditions(self, wanted: WindowFilter, sight: Sight) -> Collection[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if sight.tenant_ids is not None:
            owners = sight.tenant_ids | {MAIN_OWNER} if sight.main else sight.tenant_ids
            conditions.append(any_of(self._connection, table.c.owner, owners))
        if wanted.owner is not None:
            conditions.append(table.c.owner == wanted.owner)
        if wanted.name:
            conditions.append(table.c.name == wanted.name)
        if wanted.text:
            conditions.append(contains(self._connection, table.c.search, wanted.text.casefold()))
        if wanted.active is not None:
            conditions.append(table.c.active == wanted.active)
        return conditions


def _columns(draft: WindowDraft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "search": draft.name.casefold(),
        "description": draft.description,
        "active": draft.active,
        "definition": _write(draft.schedule, draft.scope),
        "until_ms": end_of(draft.schedule),
    }


def _write(schedule: Schedule, scope: Scope) -> str:
    when: dict[str, Any]
    if isinstance(schedule, Once):
        when = {"start_ms": schedule.start_ms, "end_ms": schedule.end_ms}
    else:
        when = {
            "cron": schedule.cron,
            "duration_ms": schedule.duration_ms,
            "time_zone": schedule.time_zone,
            "from_ms": schedule.from_ms,
            "until_ms": schedule.until_ms,
        }
    what = {
        "tenant_ids": sorted(scope.tenant_ids),
        "rules": sorted(scope.rules),
        "severities": sorted(severity.value for severity in scope.severities),
    }
    return json.dumps({"when": when, "what": what}, separators=(",", ":"), ensure_ascii=False)


def _read(text: str) -> tuple[Schedule, Scope]:
    found: dict[str, Any] = json.loads(text)
    when, what = found["when"], found["what"]
    scope = Scope(frozenset(what["tenant_ids"]), frozenset(what["rules"]), frozenset(map(Severity, what["severities"])))
    return (Recurring(**when) if "cron" in when else Once(**when)), scope


def _window(row: Row[Any]) -> Window:
    schedule, scope = _read(row.definition)
    return Window(
        id=row.id,
        uid=row.uid,
        owner=row.owner,
        draft=WindowDraft(row.name, schedule, scope, row.description, row.active),
        version=row.version,
        created_ms=row.created_ms,
        created_by=row.created_by,
        updated_ms=row.updated_ms,
    )
