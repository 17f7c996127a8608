"""Users' tokens."""

import json
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update

from tenantry.master.domain.access import Permission
from tenantry.master.domain.people import Token, TokenKind
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.tables import tokens as table

_COLUMNS: Final = tuple(table.c.keys())
_insert: Final = insert(table)
_by_id: Final = select(table).where(table.c.id == bindparam("wanted"))
_all: Final = select(table).order_by(table.c.created_ms, table.c.id)
_of_user: Final = _all.where(table.c.user_id == bindparam("owner_id"))
_revoke: Final = (
    update(table)
    .where(table.c.id == bindparam("wanted"), table.c.revoked_ms.is_(None))
    .values(revoked_ms=bindparam("now"))
    .returning(table.c.user_id)
)
_revoke_of_user: Final = (
    update(table)
    .where(
        table.c.user_id == bindparam("owner_id"),
        table.c.revoked_ms.is_(None),
        table.c.kind.in_(bindparam("kinds", expanding=True)),
        table.c.id != bindparam("spare"),
    )
    .values(revoked_ms=bindparam("now"))
    .returning(table.c.id)
)
_used: Final = update(table).where(table.c.id == bindparam("wanted")).values(last_used_ms=bindparam("now"))
_forget: Final = delete(table).where(table.c.kind == TokenKind.SESSION.value, table.c.expires_ms < bindparam("before"))


class TokenStore:
    """Tokens, by their public id."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, token: Token) -> None:
        """Keep a new token."""
        values = {column.name: getattr(token, column.name) for column in table.c}
        values["kind"] = token.kind.value
        values["permissions"] = None if token.permissions is None else json.dumps(sorted(token.permissions))
        values["owners"] = None if token.owners is None else json.dumps(sorted(token.owners))
        self._connection.execute(_insert, values)
        self._changes.users.add(token.user_id)

    def by_id(self, token_id: str) -> Token | None:
        """The token of this id, also a revoked one."""
        row = self._connection.execute(_by_id, {"wanted": token_id}).one_or_none()
        return None if row is None else _token(row)

    def all(self) -> list[Token]:
        """All tokens, oldest first."""
        return [_token(row) for row in self._connection.execute(_all)]

    def of_user(self, user_id: int) -> list[Token]:
        """A user's tokens, oldest first."""
        return [_token(row) for row in self._connection.execute(_of_user, {"owner_id": user_id})]

    def page(self, after: tuple[int, str], most: int, *, user_id: int | None, living_at_ms: int | None) -> list[Token]:
        """Tokens of a user (None: of all) behind this time of creation and id, oldest first, at most so many.

        ``living_at_ms``: only those that are not revoked and not over at that time.
        """
        created_ms, token_id = after
        query = _all.where(
            or_(table.c.created_ms > created_ms, and_(table.c.created_ms == created_ms, table.c.id > token_id))
        ).limit(most)
        if user_id is not None:
            query = query.where(table.c.user_id == user_id)
        if living_at_ms is not None:
            living = or_(table.c.expires_ms.is_(None), table.c.expires_ms > living_at_ms)
            query = query.where(table.c.revoked_ms.is_(None), living)
        return [_token(row) for row in self._connection.execute(query)]

    def revoke(self, token_id: str, now_ms: int) -> None:
        """Revoke a token; one that is revoked or unknown stays as it is."""
        self._changes.users.update(self._connection.execute(_revoke, {"wanted": token_id, "now": now_ms}).scalars())

    def revoke_of_user(self, user_id: int, now_ms: int, kind: TokenKind | None = None, spare: str = "") -> list[str]:
        """Revoke what a user has, of one kind or of both, except the token ``spare``; the ids, sorted."""
        query = {"owner_id": user_id, "kinds": [kind or one for one in TokenKind], "spare": spare, "now": now_ms}
        revoked = sorted(self._connection.execute(_revoke_of_user, query).scalars())
        if revoked:
            self._changes.users.add(user_id)
        return revoked

    def touch(self, last_used_ms: dict[str, int]) -> None:
        """Note when tokens were used last, by id."""
        if last_used_ms:
            self._connection.execute(_used, [{"wanted": key, "now": at_ms} for key, at_ms in last_used_ms.items()])

    def forget_sessions(self, before_ms: int) -> None:
        """Erase the sessions that ended before this time."""
        self._connection.execute(_forget, {"before": before_ms})


def _token(row: Row[*tuple[Any, ...]]) -> Token:
    values = dict(zip(_COLUMNS, row, strict=True))
    permissions, owners = values["permissions"], values["owners"]
    values["kind"] = TokenKind(values["kind"])
    values["permissions"] = None if permissions is None else frozenset(map(Permission, json.loads(permissions)))
    values["owners"] = None if owners is None else frozenset(json.loads(owners))
    return Token(**values)
