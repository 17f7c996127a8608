"""Layouts of metric frames, under short numbers of the store's own."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, select

from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.conflicts import InsertMissing
from tenantry.master.sql.documents import read_series, write_series
from tenantry.master.sql.tables import layouts as table
from tenantry.protocol.layouts import Layout

_insert: Final = InsertMissing(table)
_ids: Final = select(table.c.hash, table.c.id)


class LayoutStore:
    """Layouts by content hash (`Layout.id`) and by number."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert_missing(self, layouts: Sequence[Layout]) -> dict[bytes, int]:
        """Keep those layouts that are new; gives the numbers of all, by content hash."""
        if layouts:
            self._connection.execute(
                _insert.on(self._connection),
                [{"hash": layout.id, "series": write_series(layout.series)} for layout in layouts],
            )
        return self.ids([layout.id for layout in layouts])

    def ids(self, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """The numbers of those layouts that are known, by content hash."""
        if not hashes:
            return {}
        rows = self._connection.execute(_ids.where(any_of(self._connection, table.c.hash, hashes)))
        return dict(rows.all())

    def load(self, ids: Sequence[int]) -> dict[int, Layout]:
        """The layouts of these numbers; unknown ones are left out."""
        if not ids:
            return {}
        query = select(table).where(any_of(self._connection, table.c.id, ids))
        return {
            number: Layout(read_series(series), content) for number, content, series in self._connection.execute(query)
        }

    def all_ids(self) -> dict[bytes, int]:
        """The numbers of all layouts, by content hash."""
        return dict(self._connection.execute(_ids).all())
