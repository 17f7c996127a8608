"""Roles that users and groups hold."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, delete, insert, or_, select, union

from tenantry.master.domain.access import Role, RoleBinding
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import group_members
from tenantry.master.sql.tables import role_bindings as table

_COLUMNS: Final = tuple(table.c.keys())
_insert: Final = insert(table).returning(table.c.id)
_all: Final = select(table).order_by(table.c.id)
_by_id: Final = select(table).where(table.c.id == bindparam("wanted"))
_of_user: Final = _all.where(
    or_(
        table.c.user_id == bindparam("member"),
        table.c.group_id.in_(select(group_members.c.group_id).where(group_members.c.user_id == bindparam("member"))),
    )
)
_of_group: Final = _all.where(table.c.group_id == bindparam("member"))
_at: Final = _all.where(table.c.owner == bindparam("place"))
_delete: Final = delete(table).where(table.c.id == bindparam("wanted")).returning(table.c.user_id, table.c.group_id)
_delete_at: Final = (
    delete(table).where(table.c.owner == bindparam("place")).returning(table.c.user_id, table.c.group_id)
)
_members: Final = select(group_members.c.user_id).where(group_members.c.group_id == bindparam("wanted"))
_user_holders: Final = select(table.c.user_id).where(table.c.user_id.is_not(None))
_member_holders: Final = select(group_members.c.user_id).join(table, table.c.group_id == group_members.c.group_id)
_group_holders: Final = select(table.c.group_id).where(table.c.group_id.is_not(None)).distinct()


class RoleBindingStore:
    """Role bindings."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, binding: RoleBinding) -> RoleBinding:
        """Keep a new binding; the same with its number."""
        values = {column.name: getattr(binding, column.name) for column in table.c if column.name != "id"}
        values["role"] = binding.role.value
        self._note(binding.user_id, binding.group_id)
        return replace(binding, id=self._connection.execute(_insert, values).scalar_one())

    def all(self) -> Sequence[RoleBinding]:
        """All bindings, oldest first."""
        return self._read(_all, {})

    def page(
        self, owners: Collection[int] | None, user_id: int | None, group_id: int | None, after_id: int, limit: int
    ) -> Sequence[RoleBinding]:
        """At most ``limit`` bindings behind a number, oldest first, at these owners (None: any), of one subject or of any."""
        query = _all.where(table.c.id > after_id).limit(limit)
        if owners is not None:
            query = query.where(any_of(self._connection, table.c.owner, owners))
        if user_id is not None:
            query = query.where(table.c.user_id == user_id)
        if group_id is not None:
            query = query.where(table.c.group_id == group_id)
        return self._read(query, {})

    def by_id(self, binding_id: int) -> RoleBinding | None:
        """The binding of this number."""
        row = self._connection.execute(_by_id, {"wanted": binding_id}).one_or_none()
        return None if row is None else _binding(row)

    def of_user(self, user_id: int) -> Sequence[RoleBinding]:
        """What a user holds, alone or as a member of a group."""
        return self._read(_of_user, {"member": user_id})

    def of_group(self, group_id: int) -> Sequence[RoleBinding]:
        """What the members of a group hold by it."""
        return self._read(_of_group, {"member": group_id})

    def at(self, owner: int) -> Sequence[RoleBinding]:
        """What is held at an owner."""
        return self._read(_at, {"place": owner})

    def users_at(self, owners: Collection[int] | None) -> frozenset[int]:
        """The users who hold a role at one of these owners (None: at any), alone or as members of a group."""
        alone, by_group = _user_holders, _member_holders
        if owners is not None:
            condition = any_of(self._connection, table.c.owner, owners)
            alone, by_group = alone.where(condition), by_group.where(condition)
        return frozenset(self._connection.execute(union(alone, by_group)).scalars())

    def groups_at(self, owners: Collection[int] | None) -> frozenset[int]:
        """The groups that hold a role at one of these owners (None: at any)."""
        query = _group_holders
        if owners is not None:
            query = query.where(any_of(self._connection, table.c.owner, owners))
        return frozenset(self._connection.execute(query).scalars())

    def delete(self, binding_id: int) -> None:
        """Take a role away."""
        self._erase(_delete, {"wanted": binding_id})

    def delete_at(self, owner: int) -> None:
        """Take away all that is held at an owner."""
        self._erase(_delete_at, {"place": owner})

    def _read(self, query: Select[Any], values: dict[str, int]) -> Sequence[RoleBinding]:
        return [_binding(row) for row in self._connection.execute(query, values)]

    def _erase(self, statement: Any, values: dict[str, int]) -> None:
        for user_id, group_id in self._connection.execute(statement, values).all():
            self._note(user_id, group_id)

    def _note(self, user_id: int | None, group_id: int | None) -> None:
        if user_id is not None:
            self._changes.users.add(user_id)
        if group_id is not None:
            self._changes.users.update(self._connection.execute(_members, {"wanted": group_id}).scalars())


def _binding(row: Row[*tuple[Any, ...]]) -> RoleBinding:
    values = dict(zip(_COLUMNS, row, strict=True))
    return RoleBinding(**{**values, "role": Role(values["role"])})
