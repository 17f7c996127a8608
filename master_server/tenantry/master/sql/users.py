"""Users."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from tenantry.master.domain.people import User
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import users as table

_COLUMNS: Final = tuple(table.c.keys())
_insert: Final = insert(table).returning(table.c.id)
_by_id: Final = select(table).where(table.c.id == bindparam("wanted"))
_by_name: Final = select(table).where(table.c.name == bindparam("wanted"))
_by_subject: Final = select(table).where(
    table.c.issuer == bindparam("wanted_issuer"), table.c.subject == bindparam("wanted_subject")
)
_page: Final = select(table).where(table.c.name > bindparam("after")).order_by(table.c.name).limit(bindparam("most"))
_ids: Final = select(table.c.id).order_by(table.c.id)
_save: Final = update(table).where(table.c.id == bindparam("wanted"), table.c.version == bindparam("seen"))
_note: Final = update(table).where(table.c.id == bindparam("wanted"))
_delete: Final = delete(table).where(table.c.id == bindparam("wanted"))
_count: Final = select(func.count()).select_from(table)


class UserStore:
    """Users by number, name, or their subject at an OpenID provider. Names are kept as given: fold them first."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, user: User) -> User:
        """Keep a new user; the same with its number."""
        values = _values(user)
        del values["id"]
        kept = replace(user, id=self._connection.execute(_insert, values).scalar_one())
        self._changes.users.add(kept.id)
        return kept

    def by_id(self, user_id: int) -> User | None:
        """The user of this number."""
        return self._one(_by_id, {"wanted": user_id})

    def by_name(self, name: str) -> User | None:
        """The user of this name."""
        return self._one(_by_name, {"wanted": name})

    def by_subject(self, issuer: str, subject: str) -> User | None:
        """The user whom an OpenID provider knows by this subject."""
        return self._one(_by_subject, {"wanted_issuer": issuer, "wanted_subject": subject})

    def page(self, after: str, most: int, only: Collection[int] | None = None) -> Sequence[User]:
        """Users by name, behind ``after``, at most so many; ``only``: those with these numbers (None: all)."""
        query = _page if only is None else _page.where(any_of(self._connection, table.c.id, only))
        return [_user(row) for row in self._connection.execute(query, {"after": after, "most": most})]

    def ids(self) -> list[int]:
        """The numbers of all users."""
        return list(self._connection.execute(_ids).scalars())

    def save(self, user: User) -> User | None:
        """Keep a changed user, with its version one higher; None when it was changed or deleted meanwhile."""
        changed = replace(user, version=user.version + 1)
        values = _values(changed)
        del values["id"]
        result = self._connection.execute(_save.values(values), {"wanted": user.id, "seen": user.version})
        if not result.rowcount:
            return None
        self._changes.users.add(user.id)
        return changed

    def note_sign_in(self, user: User) -> None:
        """Keep what a sign-in leaves behind: its time, the code that was used, a hash made anew. The version stays."""
        values = {
            "last_sign_in_ms": user.last_sign_in_ms,
            "totp_used_step": user.totp_used_step,
            "recovery_codes": json.dumps(user.recovery_codes),
            "password": user.password,
        }
        self._connection.execute(_note.values(values), {"wanted": user.id})

    def delete(self, user_id: int) -> None:
        """Erase a user, with tokens, roles and memberships."""
        self._connection.execute(_delete, {"wanted": user_id})
        self._changes.users.add(user_id)

    def count(self, only: Collection[int] | None = None) -> int:
        """How many users there are, or of those with these numbers."""
        query = _count if only is None else _count.where(any_of(self._connection, table.c.id, only))
        return int(self._connection.execute(query).scalar_one())

    def _one(self, statement: Any, values: dict[str, Any]) -> User | None:
        row = self._connection.execute(statement, values).one_or_none()
        return None if row is None else _user(row)


def _values(user: User) -> dict[str, Any]:
    values = {column.name: getattr(user, column.name) for column in table.c}
    values["recovery_codes"] = json.dumps(user.recovery_codes)
    return values


def _user(row: Row[*tuple[Any, ...]]) -> User:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["recovery_codes"] = tuple(json.loads(values["recovery_codes"]))
    return User(**values)
