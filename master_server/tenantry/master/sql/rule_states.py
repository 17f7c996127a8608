"""Where the rules stand with the Tenants' series, and which Tenants they hold in Alert."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, delete, distinct, func, select
from sqlalchemy.dialects import postgresql, sqlite

from tenantry.detection.levels import Level
from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.rules import Labels, RuleStatus, SeriesState
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.conflicts import prepare_missing
from tenantry.master.sql.documents import read_labels, read_states, write_labels, write_states
from tenantry.master.sql.prepared import Prepared, PreparedLists
from tenantry.master.sql.tables import rule_holds as holds
from tenantry.master.sql.tables import rule_states as table

_KEY: Final = ("tenant_id", "rule_id", "series")
_MUTABLE: Final = ("states", "level", "level_since_ms", "acted")


class SeriesKey(NamedTuple):
    """One series of one Tenant, as one rule sees it."""

    tenant_id: int
    rule_id: int
    labels: Labels


StoredState = tuple[SeriesKey, SeriesState]


def _upsert(dialect: Any) -> Any:
    statement = dialect.insert(table)
    return statement.on_conflict_do_update(
        index_elements=_KEY, set_={name: statement.excluded[name] for name in _MUTABLE}
    )


_save: Final = Prepared(_upsert(postgresql), (column.key for column in table.c), _upsert(sqlite))
_hold: Final = prepare_missing(holds)
_all: Final = select(table)
_of_rule: Final = _all.where(table.c.rule_id == bindparam("wanted")).order_by(table.c.tenant_id, table.c.series)
_forget_rule: Final = delete(table).where(table.c.rule_id == bindparam("wanted"))
_forget_one: Final = delete(table).where(
    table.c.tenant_id == bindparam("tenant"), table.c.rule_id == bindparam("rule"), table.c.series == bindparam("key")
)
_held: Final = PreparedLists(select(holds.c.tenant_id), holds.c.tenant_id)
_release: Final = Prepared(delete(holds).where(holds.c.tenant_id == bindparam("tenant")))
_statuses: Final = (
    select(table.c.rule_id, func.count(), func.count(distinct(table.c.tenant_id)))
    .where(table.c.level > Level.CLEARED)
    .group_by(table.c.rule_id)
)


class RuleStateStore:
    """States of series by Tenant, rule and labels; holds by Tenant."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    @property
    def reset(self) -> Collection[int]:
        """The Tenants whose states this transaction has taken away."""
        return self._changes.rules_reset

    def save(self, states: Iterable[StoredState]) -> None:
        """Keep where series stand, new ones and known ones."""
        rows = [
            {
                "tenant_id": key.tenant_id,
                "rule_id": key.rule_id,
                "series": _hash(key.labels),
                "labels": write_labels(key.labels),
                "states": write_states(state.states),
                "level": int(state.level),
                "level_since_ms": state.level_since_ms,
                "acted": int(state.acted),
            }
            for key, state in states
        ]
        _save.run_many(self._connection, rows)

    def all(self) -> list[StoredState]:
        """All of them."""
        return self._read(_all)

    def of_rule(self, rule_id: int) -> list[StoredState]:
        """Those of one rule."""
        return [_state(row) for row in self._connection.execute(_of_rule, {"wanted": rule_id})]

    def of_tenants(self, tenant_ids: Collection[int]) -> list[StoredState]:
        """Those of these Tenants."""
        return self._read(_all.where(any_of(self._connection, table.c.tenant_id, tenant_ids))) if tenant_ids else []

    def statuses(self, rule_ids: Collection[int], sight: Sight = EVERYTHING) -> dict[int, RuleStatus]:
        """What these rules find now of the Tenants within sight; those that find nothing are left out."""
        query = _statuses.where(any_of(self._connection, table.c.rule_id, rule_ids))
        if sight.tenant_ids is not None:
            query = query.where(any_of(self._connection, table.c.tenant_id, sight.tenant_ids))
        return {rule: RuleStatus(found, tenants) for rule, found, tenants in self._connection.execute(query)}

    def forget(self, keys: Sequence[SeriesKey]) -> None:
        """Take the states of single series away."""
        if keys:
            rows = [{"tenant": key.tenant_id, "rule": key.rule_id, "key": _hash(key.labels)} for key in keys]
            self._connection.execute(_forget_one, rows)

    def forget_rule(self, rule_id: int) -> None:
        """Take the states of a rule away that is about to be saved or deleted."""
        self._connection.execute(_forget_rule, {"wanted": rule_id})

    def forget_tenants(self, tenant_ids: Collection[int]) -> None:
        """Take the states of these Tenants away."""
        if tenant_ids:
            self._connection.execute(delete(table).where(any_of(self._connection, table.c.tenant_id, tenant_ids)))
            self._changes.rules_reset.update(tenant_ids)

    def hold(self, tenant_ids: Collection[int], now_ms: int) -> None:
        """Rules have put these Tenants into Alert."""
        _hold.run_many(self._connection, [{"tenant_id": one, "since_ms": now_ms} for one in tenant_ids])

    def held(self, tenant_ids: Collection[int]) -> set[int]:
        """Those of these Tenants that are in Alert because of a rule."""
        return {tenant_id for (tenant_id,) in _held.rows(self._connection, tenant_ids)}

    def release(self, tenant_ids: Collection[int]) -> None:
        """These Tenants are not in Alert because of a rule any more."""
        _release.run_many(self._connection, [{"tenant": one} for one in tenant_ids])

    def _read(self, query: Select[Any]) -> list[StoredState]:
        return [_state(row) for row in self._connection.execute(query)]


def _hash(labels: Labels) -> bytes:
    return hashlib.sha256(write_labels(labels).encode()).digest()[:16]


def _state(row: Row[Any]) -> StoredState:
    return (
        SeriesKey(row.tenant_id, row.rule_id, read_labels(row.labels)),
        SeriesState(read_states(row.states), Level(row.level), row.level_since_ms, Level(row.acted)),
    )
