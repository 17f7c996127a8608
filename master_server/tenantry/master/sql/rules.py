"""The rules, each with its owner."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, select, tuple_, update

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Sight
from tenantry.master.domain.privacy import Privacy
from tenantry.master.domain.rules import Rule, RuleDraft, RuleFilter
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of, contains, none_of
from tenantry.master.sql.documents import read_definition, read_privacy, write_definition, write_privacy
from tenantry.master.sql.prepared import PreparedLists
from tenantry.master.sql.tables import rules as table
from tenantry.protocol.failures import RuleNameTaken, RuleNotFound

_SEPARATOR: Final = "\x1f"
"""Stands around each tag; no tag may hold a control character."""

_by_uid: Final = select(table).where(table.c.uid == bindparam("wanted"))
_by_uids: Final = PreparedLists(select(table), table.c.uid)
_active: Final = select(table).where(table.c.active).order_by(table.c.id)
_judging: Final = select(table.c.owner).where(table.c.active).distinct()
_namesake: Final = select(table.c.id).where(
    table.c.owner == bindparam("at"), table.c.name == bindparam("wanted"), table.c.id != bindparam("itself")
)
_count: Final = select(func.count()).select_from(table)
_count_at: Final = _count.where(table.c.owner == bindparam("at"))
_count_of_tenants: Final = _count.where(table.c.owner > MAIN_OWNER)
_at: Final = select(table).where(table.c.owner == bindparam("at")).order_by(table.c.id)
_narrowed: Final = select(table.c.id, table.c.owner, table.c.privacy).where(table.c.privacy != "")
_PLACE: Final = tuple_(table.c.name, table.c.uid)
_builtin: Final = select(table.c.builtin).where(table.c.builtin != "")
_insert: Final = insert(table).returning(table.c.id)
_update: Final = update(table).where(table.c.id == bindparam("itself"))
_delete: Final = delete(table).where(table.c.id == bindparam("itself"))


class RuleStore:
    """Rules by `Rule.uid`. Whatever changes what is evaluated is noted for the evaluation."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    @property
    def changed(self) -> Collection[int]:
        """The owners of whom this transaction has changed a rule."""
        return self._changes.rules

    def insert(self, uid: str, draft: RuleDraft, now_ms: int, builtin: str = "", *, owner: int) -> Rule:
        """Keep a new rule. Raises RuleNameTaken."""
        self._check_name(owner, draft.name, 0)
        values = {
            **_columns(draft),
            "uid": uid,
            "owner": owner,
            "builtin": builtin,
            "version": 1,
            "created_ms": now_ms,
            "updated_ms": now_ms,
            "failing_reason": "",
            "failing_since_ms": None,
        }
        number = self._connection.execute(_insert, values).scalar_one()
        self._changes.rules.add(owner)
        return Rule(number, uid, owner, draft, builtin, 1, now_ms, now_ms)

    def get(self, uid: str) -> Rule:
        """The rule. Raises RuleNotFound."""
        row = self._connection.execute(_by_uid, {"wanted": uid}).one_or_none()
        if row is None:
            raise RuleNotFound(rule=uid)
        return _rule(row)

    def by_uids(self, uids: Collection[str]) -> dict[str, Rule]:
        """Those of these ids that there are."""
        return {row.uid: _rule(row) for row in _by_uids.rows(self._connection, uids)}

    def telling(self, receiver_uid: str) -> int:
        """How many rules name this receiver."""
        named = contains(self._connection, table.c.definition, f'"{receiver_uid}"')
        return int(self._connection.execute(_count.where(named)).scalar_one())

    def save(self, rule: Rule) -> None:
        """Write everything of a rule that is there but its owner. Raises RuleNameTaken, RuleNotFound."""
        self._check_name(rule.owner, rule.name, rule.id)
        values = {
            **_columns(rule.draft),
            "version": rule.version,
            "updated_ms": rule.updated_ms,
            "failing_reason": rule.failing_reason,
            "failing_since_ms": rule.failing_since_ms,
        }
        if self._connection.execute(_update, {"itself": rule.id, **values}).rowcount != 1:
            raise RuleNotFound(rule=rule.uid)
        self._changes.rules.add(rule.owner)

    def set_failing(self, rule_id: int, reason: str, since_ms: int) -> None:
        """Say why a rule does not work as it should; what is evaluated stays."""
        self._connection.execute(_update, {"itself": rule_id, "failing_reason": reason, "failing_since_ms": since_ms})

    def delete(self, rule: Rule) -> None:
        """Forget a rule, whose states must have been taken away before."""
        self._connection.execute(_delete, {"itself": rule.id})
        self._changes.rules.add(rule.owner)

    def active(self, owners: Collection[int]) -> list[Rule]:
        """The active rules of these owners."""
        query = _active.where(any_of(self._connection, table.c.owner, owners))
        return [_rule(row) for row in self._connection.execute(query)]

    def judging(self, owners: Collection[int] | None = None) -> set[int]:
        """Those of these owners (None: of all) that have active rules."""
        query = _judging if owners is None else _judging.where(any_of(self._connection, table.c.owner, owners))
        return set(self._connection.execute(query).scalars())

    def at(self, owner: int) -> list[Rule]:
        """All rules of an owner."""
        return [_rule(row) for row in self._connection.execute(_at, {"at": owner})]

    def builtin(self) -> frozenset[str]:
        """Which of the rules that come with the program are there."""
        return frozenset(self._connection.execute(_builtin).scalars())

    def narrowed(self, sight: Sight) -> list[tuple[int, int, Privacy]]:
        """The rules within sight whose privacy narrows something: number, owner, privacy."""
        found = self._connection.execute(_narrowed.where(*self._seen(sight)))
        return [(number, owner, read_privacy(privacy)) for number, owner, privacy in found]

    def page(
        self,
        wanted: RuleFilter,
        after: tuple[str, str] | None,
        limit: int,
        sight: Sight = EVERYTHING,
        hidden: Collection[int] = (),
    ) -> list[Rule]:
        """At most ``limit`` rules within sight, without those ``hidden`` (numbers), behind a name and uid, by these."""
        query = select(table).where(*self._conditions(wanted, sight, hidden)).order_by(table.c.name, table.c.uid)
        if after is not None:
            query = query.where(tuple_(*after) < _PLACE)
        return [_rule(row) for row in self._connection.execute(query.limit(limit))]

    def count(self, wanted: RuleFilter, sight: Sight = EVERYTHING, hidden: Collection[int] = ()) -> int:
        """How many rules match, as `page` shows them."""
        return int(self._connection.execute(_count.where(*self._conditions(wanted, sight, hidden))).scalar_one())

    def count_at(self, owner: int) -> int:
        """How many rules an owner has."""
        return int(self._connection.execute(_count_at, {"at": owner}).scalar_one())

    def count_of_tenants(self) -> int:
        """How many rules all Tenants have together."""
        return int(self._connection.execute(_count_of_tenants).scalar_one())

    def _check_name(self, owner: int, name: str, itself: int) -> None:
        # One writer at a time, as with Tenants; the unique constraint is the second net.
        if self._connection.execute(_namesake, {"at": owner, "wanted": name, "itself": itself}).first() is not None:
            raise RuleNameTaken(name=name)

    def _seen(self, sight: Sight) -> list[ColumnElement[bool]]:
        if sight.tenant_ids is None:
            return []
        owners = sight.tenant_ids | {MAIN_OWNER} if sight.main else sight.tenant_ids
        return [any_of(self._connection, table.c.owner, owners)]

    def _conditions(self, wanted: RuleFilter, sight: Sight, hidden: Collection[int]) -> Sequence[ColumnElement[bool]]:
        connection = self._connection
        conditions = self._seen(sight)
        conditions += [contains(connection, table.c.tags, f"{_SEPARATOR}{tag}{_SEPARATOR}") for tag in wanted.tags]
        if hidden:
            conditions.append(none_of(connection, table.c.id, hidden))
        if wanted.owner is not None:
            conditions.append(table.c.owner == wanted.owner)
        if wanted.name:
            conditions.append(table.c.name == wanted.name)
        if wanted.text:
            conditions.append(contains(connection, table.c.search, wanted.text.casefold()))
        if wanted.active is not None:
            conditions.append(table.c.active == wanted.active)
        return conditions


def _columns(draft: RuleDraft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "search": draft.name.casefold(),
        "description": draft.description,
        "tags": "".join((_SEPARATOR, *(f"{tag}{_SEPARATOR}" for tag in draft.tags))),
        "score": draft.score,
        "active": draft.active,
        "definition": write_definition(draft),
        "privacy": write_privacy(draft.privacy),
    }


def _rule(row: Row[Any]) -> Rule:
    return Rule(
        id=row.id,
        uid=row.uid,
        owner=row.owner,
        draft=RuleDraft(
            name=row.name,
            **read_definition(row.definition),
            description=row.description,
            tags=tuple(row.tags.split(_SEPARATOR)[1:-1]),
            score=row.score,
            active=row.active,
            privacy=read_privacy(row.privacy),
        ),
        builtin=row.builtin,
        version=row.version,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        failing_reason=row.failing_reason,
        failing_since_ms=row.failing_since_ms,
    )
