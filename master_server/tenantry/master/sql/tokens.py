"""Administrators' tokens."""

from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from tenantry.master.domain.keys import Token
from tenantry.master.sql.tables import tokens as table

_insert: Final = insert(table)
_by_id: Final = select(table).where(table.c.id == bindparam("wanted"))
_all: Final = select(table).order_by(table.c.created_ms, table.c.id)
_revoke: Final = (
    update(table)
    .where(table.c.id == bindparam("wanted"), table.c.revoked_ms.is_(None))
    .values(revoked_ms=bindparam("now"))
)


class TokenStore:
    """Tokens, by their public id."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, token: Token) -> None:
        """Keep a new token."""
        self._connection.execute(_insert, {column.name: getattr(token, column.name) for column in table.c})

    def by_id(self, token_id: str) -> Token | None:
        """The token of this id, also a revoked one."""
        row = self._connection.execute(_by_id, {"wanted": token_id}).one_or_none()
        return None if row is None else _token(row)

    def all(self) -> list[Token]:
        """All tokens, oldest first."""
        return [_token(row) for row in self._connection.execute(_all)]

    def revoke(self, token_id: str, now_ms: int) -> None:
        """Revoke a token; one that is revoked or unknown stays as it is."""
        self._connection.execute(_revoke, {"wanted": token_id, "now": now_ms})


def _token(row: Row[*tuple[Any, ...]]) -> Token:
    return Token(*row)
