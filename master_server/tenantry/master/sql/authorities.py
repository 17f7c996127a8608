"""Which authorities there are; their keys are files."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from tenantry.master.domain.authorities import AuthorityState
from tenantry.master.sql.tables import authorities as table

_insert: Final = insert(table)
_load: Final = select(table).order_by(table.c.created_ms, table.c.id)
_set_state: Final = update(table).where(table.c.id == bindparam("wanted")).values(state=bindparam("after"))

_set_end: Final = (
    update(table).where(table.c.id == bindparam("wanted")).values(intermediate_not_after_ms=bindparam("end_ms"))
)


@dataclass(frozen=True, slots=True)
class StoredAuthority:
    """An authority by its id. Times are Unix milliseconds; ``fingerprint`` is the root's SHA-256 (hexadecimal)."""

    id: str
    state: AuthorityState
    fingerprint: str
    created_ms: int
    root_not_after_ms: int
    intermediate_not_after_ms: int


class AuthorityStore:
    """Authorities and their states."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load(self) -> list[StoredAuthority]:
        """All authorities, oldest first."""
        return [
            StoredAuthority(
                id=row.id,
                state=AuthorityState(row.state),
                fingerprint=row.fingerprint,
                created_ms=row.created_ms,
                root_not_after_ms=row.root_not_after_ms,
                intermediate_not_after_ms=row.intermediate_not_after_ms,
            )
            for row in self._connection.execute(_load)
        ]

    def insert(self, authority: StoredAuthority) -> None:
        """Keep a new authority."""
        values = {column.name: getattr(authority, column.name) for column in table.c}
        self._connection.execute(_insert, {**values, "state": authority.state.value})

    def set_intermediate_end(self, authority: str, not_after_ms: int) -> None:
        """Keep when the intermediate of one authority ends, after it was replaced."""
        self._connection.execute(_set_end, {"wanted": authority, "end_ms": not_after_ms})

    def set_state(self, authority: str, state: AuthorityState) -> None:
        """Change the state of one authority."""
        self._connection.execute(_set_state, {"wanted": authority, "after": state.value})
