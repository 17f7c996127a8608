"""Named values that a Master keeps about itself."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from tenantry.master.sql.tables import settings as table

_get: Final = select(table.c.value).where(table.c.name == bindparam("wanted"))
_clear: Final = delete(table).where(table.c.name == bindparam("wanted"))
_insert: Final = insert(table)


class SettingStore:
    """Texts by name."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> str | None:
        """The value of a name; None where it was never set."""
        return self._connection.execute(_get, {"wanted": name}).scalar_one_or_none()

    def set(self, name: str, value: str) -> None:
        """Give a name its value, instead of the one that it has."""
        self._connection.execute(_clear, {"wanted": name})
        self._connection.execute(_insert, {"name": name, "value": value})

    def delete(self, name: str) -> None:
        """Take a name's value away, where it has one."""
        self._connection.execute(_clear, {"wanted": name})
