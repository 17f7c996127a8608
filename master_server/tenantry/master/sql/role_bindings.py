"""Roles that users and groups hold."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, insert, or_, select

from tenantry.master.domain.access import Role, RoleBinding
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
_delete: Final = delete(table).where(table.c.id == bindparam("wanted"))


class RoleBindingStore:
    """Role bindings."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, binding: RoleBinding) -> RoleBinding:
        """Keep a new binding; the same with its number."""
        values = {column.name: getattr(binding, column.name) for column in table.c if column.name != "id"}
        values["role"] = binding.role.value
        return replace(binding, id=self._connection.execute(_insert, values).scalar_one())

    def all(self) -> Sequence[RoleBinding]:
        """All bindings, oldest first."""
        return [_binding(row) for row in self._connection.execute(_all)]

    def by_id(self, binding_id: int) -> RoleBinding | None:
        """The binding of this number."""
        row = self._connection.execute(_by_id, {"wanted": binding_id}).one_or_none()
        return None if row is None else _binding(row)

    def of_user(self, user_id: int) -> Sequence[RoleBinding]:
        """What a user holds, alone or as a member of a group."""
        return [_binding(row) for row in self._connection.execute(_of_user, {"member": user_id})]

    def delete(self, binding_id: int) -> None:
        """Take a role away."""
        self._connection.execute(_delete, {"wanted": binding_id})


def _binding(row: Row[*tuple[Any, ...]]) -> RoleBinding:
    values = dict(zip(_COLUMNS, row, strict=True))
    return RoleBinding(**{**values, "role": Role(values["role"])})
