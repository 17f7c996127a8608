"""Groups and their members."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from tenantry.master.domain.people import Group
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.tables import group_members as members
from tenantry.master.sql.tables import groups as table

_COLUMNS: Final = tuple(table.c.keys())
_insert: Final = insert(table).returning(table.c.id)
_all: Final = select(table).order_by(table.c.name)
_by_name: Final = select(table).where(table.c.name == bindparam("wanted"))
_save: Final = update(table).where(table.c.id == bindparam("wanted"))
_delete: Final = delete(table).where(table.c.id == bindparam("wanted"))
_members: Final = (
    select(members.c.user_id, members.c.external)
    .where(members.c.group_id == bindparam("wanted"))
    .order_by(members.c.user_id)
)
_of_user: Final = select(members.c.group_id, members.c.external).where(members.c.user_id == bindparam("member"))
_add: Final = insert(members)
_remove: Final = delete(members).where(
    members.c.group_id == bindparam("wanted"), members.c.user_id == bindparam("member")
)


class GroupStore:
    """Groups by name, and who is in them. Names are kept as given: fold them first."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, group: Group) -> Group:
        """Keep a new group; the same with its number."""
        values = _values(group)
        return replace(group, id=self._connection.execute(_insert, values).scalar_one())

    def all(self) -> Sequence[Group]:
        """All groups by name."""
        return [_group(row) for row in self._connection.execute(_all)]

    def by_name(self, name: str) -> Group | None:
        """The group of this name."""
        row = self._connection.execute(_by_name, {"wanted": name}).one_or_none()
        return None if row is None else _group(row)

    def save(self, group: Group) -> None:
        """Keep a changed group."""
        self._connection.execute(_save.values(_values(group)), {"wanted": group.id})

    def delete(self, group_id: int) -> None:
        """Erase a group, with its roles and memberships."""
        self._changes.users.update(self.members(group_id))
        self._connection.execute(_delete, {"wanted": group_id})

    def members(self, group_id: int) -> dict[int, bool]:
        """Who is in a group, and whether the OpenID provider put them there."""
        rows = self._connection.execute(_members, {"wanted": group_id})
        return {row[0]: row[1] for row in rows}

    def of_user(self, user_id: int) -> dict[int, bool]:
        """In which groups a user is, and whether the OpenID provider put the user there."""
        rows = self._connection.execute(_of_user, {"member": user_id})
        return {row[0]: row[1] for row in rows}

    def add(self, group_id: int, user_id: int, *, external: bool) -> None:
        """Put a user into a group where the user is not."""
        self._connection.execute(_add, {"group_id": group_id, "user_id": user_id, "external": external})
        self._changes.users.add(user_id)

    def remove(self, group_id: int, user_id: int) -> None:
        """Take a user out of a group."""
        self._connection.execute(_remove, {"wanted": group_id, "member": user_id})
        self._changes.users.add(user_id)


def _values(group: Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in _COLUMNS if name != "id"}


def _group(row: Row[*tuple[Any, ...]]) -> Group:
    return Group(**dict(zip(_COLUMNS, row, strict=True)))
