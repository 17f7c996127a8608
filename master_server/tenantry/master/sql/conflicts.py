"""Inserts that leave what is there already: SQLAlchemy has one construct for each database."""

from typing import Final

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from tenantry.master.sql.prepared import Prepared


class InsertMissing:
    """An ``INSERT … ON CONFLICT DO NOTHING`` into one table, for either database."""

    __slots__ = ("_postgresql", "_sqlite")

    def __init__(self, table: Table) -> None:
        self._sqlite: Final = sqlite.insert(table).on_conflict_do_nothing()
        self._postgresql: Final = postgresql.insert(table).on_conflict_do_nothing()

    def on(self, connection: Connection) -> Insert:
        """The statement for the database of this connection."""
        return self._sqlite if connection.dialect.name == "sqlite" else self._postgresql


def prepare_missing(table: Table, without: frozenset[str] = frozenset()) -> Prepared:
    """The same for what happens often; the columns ``without`` get their values from the database."""
    names = (column.key for column in table.c if column.key not in without)
    return Prepared(
        postgresql.insert(table).on_conflict_do_nothing(), names, sqlite.insert(table).on_conflict_do_nothing()
    )
