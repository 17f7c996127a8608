"""The rules of the Master."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, select, update

from tenantry.master.domain.rules import Rule, RuleDraft, RuleFilter
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import contains
from tenantry.master.sql.documents import read_definition, write_definition
from tenantry.master.sql.tables import rules as table
from tenantry.protocol.failures import RuleNameTaken, RuleNotFound

_SEPARATOR: Final = "\x1f"
"""Stands around each tag; no tag may hold a control character."""

_by_uid: Final = select(table).where(table.c.uid == bindparam("wanted"))
_active: Final = select(table).where(table.c.active).order_by(table.c.id)
_namesake: Final = select(table.c.id).where(table.c.name == bindparam("wanted"), table.c.id != bindparam("itself"))
_count: Final = select(func.count()).select_from(table)
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
    def changed(self) -> bool:
        """Whether this transaction has changed a rule."""
        return self._changes.rules

    def insert(self, uid: str, draft: RuleDraft, now_ms: int, builtin: str = "") -> Rule:
        """Keep a new rule. Raises RuleNameTaken."""
        self._check_name(draft.name, 0)
        values = {
            **_columns(draft),
            "uid": uid,
            "builtin": builtin,
            "version": 1,
            "created_ms": now_ms,
            "updated_ms": now_ms,
            "failing_reason": "",
            "failing_since_ms": None,
        }
        number = self._connection.execute(_insert, values).scalar_one()
        self._changes.rules = True
        return Rule(number, uid, draft, builtin, 1, now_ms, now_ms)

    def get(self, uid: str) -> Rule:
        """The rule. Raises RuleNotFound."""
        row = self._connection.execute(_by_uid, {"wanted": uid}).one_or_none()
        if row is None:
            raise RuleNotFound(rule=uid)
        return _rule(row)

    def save(self, rule: Rule) -> None:
        """Write everything of a rule that is there. Raises RuleNameTaken, RuleNotFound."""
        self._check_name(rule.name, rule.id)
        values = {
            **_columns(rule.draft),
            "version": rule.version,
            "updated_ms": rule.updated_ms,
            "failing_reason": rule.failing_reason,
            "failing_since_ms": rule.failing_since_ms,
        }
        if self._connection.execute(_update, {"itself": rule.id, **values}).rowcount != 1:
            raise RuleNotFound(rule=rule.uid)
        self._changes.rules = True

    def set_failing(self, rule_id: int, reason: str, since_ms: int) -> None:
        """Say why a rule does not work as it should; what is evaluated stays."""
        self._connection.execute(_update, {"itself": rule_id, "failing_reason": reason, "failing_since_ms": since_ms})

    def delete(self, rule: Rule) -> None:
        """Forget a rule, whose states must have been taken away before."""
        self._connection.execute(_delete, {"itself": rule.id})
        self._changes.rules = True

    def active(self) -> list[Rule]:
        """All rules that are evaluated."""
        return [_rule(row) for row in self._connection.execute(_active)]

    def builtin(self) -> frozenset[str]:
        """Which of the rules that come with the program are there."""
        return frozenset(self._connection.execute(_builtin).scalars())

    def page(self, wanted: RuleFilter, after: str | None, limit: int) -> list[Rule]:
        """At most ``limit`` rules by name, behind that of the page before."""
        query = select(table).where(*self._conditions(wanted)).order_by(table.c.name).limit(limit)
        if after is not None:
            query = query.where(table.c.name > after)
        return [_rule(row) for row in self._connection.execute(query)]

    def count(self, wanted: RuleFilter) -> int:
        """How many rules match."""
        return int(self._connection.execute(_count.where(*self._conditions(wanted))).scalar_one())

    def _check_name(self, name: str, itself: int) -> None:
        # One writer at a time, as with Tenants; the unique constraint is the second net.
        if self._connection.execute(_namesake, {"wanted": name, "itself": itself}).first() is not None:
            raise RuleNameTaken(name=name)

    def _conditions(self, wanted: RuleFilter) -> Sequence[ColumnElement[bool]]:
        connection = self._connection
        conditions = [contains(connection, table.c.tags, f"{_SEPARATOR}{tag}{_SEPARATOR}") for tag in wanted.tags]
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
        "definition": write_definition(draft.condition, draft.actions),
    }


def _rule(row: Row[Any]) -> Rule:
    condition, actions = read_definition(row.definition)
    return Rule(
        id=row.id,
        uid=row.uid,
        draft=RuleDraft(
            name=row.name,
            condition=condition,
            actions=actions,
            description=row.description,
            tags=tuple(row.tags.split(_SEPARATOR)[1:-1]),
            score=row.score,
            active=row.active,
        ),
        builtin=row.builtin,
        version=row.version,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        failing_reason=row.failing_reason,
        failing_since_ms=row.failing_since_ms,
    )
