"""From where users have signed in."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from tenantry.master.sql.tables import sign_in_sources as table

_insert: Final = insert(table)
_move: Final = (
    update(table)
    .where(table.c.user_id == bindparam("member"), table.c.source == bindparam("place"))
    .values(last_ms=bindparam("now"))
)
_of_user: Final = (
    select(table.c.source)
    .where(table.c.user_id == bindparam("member"))
    .order_by(table.c.last_ms.desc(), table.c.source)
)
_forget: Final = delete(table).where(
    table.c.user_id == bindparam("member"), table.c.source.in_(bindparam("places", expanding=True))
)


class SignInSourceStore:
    """The sources of each user's sign-ins that succeeded."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def note(self, user_id: int, source: str, now_ms: int, most: int) -> None:
        """A user has signed in from there; of a user's sources the ``most`` newest are kept."""
        moved = self._connection.execute(_move, {"member": user_id, "place": source, "now": now_ms})
        if moved.rowcount:
            return
        self._connection.execute(_insert, {"user_id": user_id, "source": source, "last_ms": now_ms})
        too_old = self.of_user(user_id)[most:]
        if too_old:
            self._connection.execute(_forget, {"member": user_id, "places": too_old})

    def of_user(self, user_id: int) -> list[str]:
        """Where a user has signed in from, the newest first."""
        return list(self._connection.execute(_of_user, {"member": user_id}).scalars())
