"""Statements of every link and every finding: on SQLite their text is made once, and then they are the driver's own business.

What SQLAlchemy does around a statement costs several times what a small one costs in SQLite: in a storm of links, or between a sample
and the state that follows from it, that is most of the time. On PostgreSQL they go the usual way.
"""

import json
from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from tenantry.master.sql.conditions import any_of, is_sqlite
from tenantry.master.sql.shortcut import run_many_on_sqlite, run_on_sqlite

_DIALECT: Final = sqlite.dialect(paramstyle="qmark")
_LIST: Final = "listed"
_named: Final[Any] = namedtuple  # noqa: PYI024 - its fields are known at run time alone


class Prepared:
    """One statement. Its values are numbers, texts, bytes and truth values, which the driver takes as they are.

    Errors on SQLite are the driver's own.
    """

    def __init__(self, statement: Any, columns: Iterable[str] | None = None, on_sqlite: Any = None) -> None:
        """``columns``: which an INSERT or UPDATE without VALUES writes. ``on_sqlite``: the statement there, where it is another."""
        self._statement = statement
        self._columns = None if columns is None else list(columns)
        self._on_sqlite: ClauseElement = statement if on_sqlite is None else on_sqlite

    def rows(self, connection: Connection, **values: Any) -> list[Any]:
        """What it finds, each row with its columns by name and by place."""
        if not is_sqlite(connection):
            return list(connection.execute(self._statement, values))
        text, names, constants = self._text
        _begin(connection)
        found = run_on_sqlite(connection, text, tuple([values[n] if n in values else constants[n] for n in names]))
        make, readers = self._reading
        rows = found.fetchall()
        if readers:
            rows = [[read(value) if read else value for read, value in zip(readers, row, strict=True)] for row in rows]
        return list(map(make, rows))

    def scalars(self, connection: Connection, **values: Any) -> list[Any]:
        """The first column of what it finds."""
        return [row[0] for row in self.rows(connection, **values)]

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Change something; how many rows."""
        if not is_sqlite(connection):
            return int(connection.execute(self._statement, values).rowcount)
        text, names, constants = self._text
        _begin(connection)
        return run_on_sqlite(
            connection, text, tuple([values[n] if n in values else constants[n] for n in names])
        ).rowcount

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """The same with each of these values."""
        if not rows:
            return
        if not is_sqlite(connection):
            connection.execute(self._statement, rows)
            return
        text, names, constants = self._text
        _begin(connection)
        run_many_on_sqlite(
            connection, text, [tuple([row[n] if n in row else constants[n] for n in names]) for row in rows]
        )

    @cached_property
    def _compiled(self) -> SQLCompiler:
        compiled = self._on_sqlite.compile(dialect=_DIALECT, column_keys=self._columns)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - nothing else comes of a statement
        return compiled

    @cached_property
    def _text(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """The text, the names of its values in their order, and those that the statement has itself."""
        compiled = self._compiled
        names = tuple(compiled.positiontup or ())
        constants = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}
        return compiled.string, names, constants

    @cached_property
    def _reading(self) -> tuple[Callable[[Iterable[Any]], Any], list[Callable[[Any], Any] | None]]:
        """How a row is made, and how values are read that the driver gives otherwise; no readers where there are none."""
        columns: Any = getattr(self._on_sqlite, "selected_columns", None)
        if columns is None:
            columns = self._on_sqlite.exported_columns  # type: ignore[attr-defined]  # of RETURNING
        names: Any = [column.key for column in columns]
        made: Any = _named("Row", names, rename=True)
        readers = [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) for column in columns]
        return made._make, readers if any(readers) else []


class PreparedLists:
    """A query with columns that are each one of any number of numbers or texts."""

    def __init__(self, query: Select[Any], *columns: ColumnElement[Any]) -> None:
        self._query = query
        self._columns = columns
        self._names = [f"{_LIST}_{place}" for place in range(len(columns))]
        named = list(zip(columns, self._names, strict=True))
        self._prepared = Prepared(query.where(*(column.in_(_listed(name)) for column, name in named)))
        self._of_one = Prepared(query.where(*(column == bindparam(name) for column, name in named)))

    def rows(self, connection: Connection, *lists: Collection[Any]) -> list[Any]:
        """What it finds with a list for each of the columns; each row with its columns by name and by place."""
        if not all(lists):
            return []
        if is_sqlite(connection):
            if all(len(wanted) == 1 for wanted in lists):
                (values,) = zip(*lists, strict=True)
                return self._of_one.rows(connection, **dict(zip(self._names, values, strict=True)))
            written = {name: json.dumps(list(wanted)) for name, wanted in zip(self._names, lists, strict=True)}
            return self._prepared.rows(connection, **written)
        conditions = [any_of(connection, *one) for one in zip(self._columns, lists, strict=True)]
        return list(connection.execute(self._query.where(*conditions)))


def _listed(name: str) -> Select[Any]:
    return select(func.json_each(bindparam(name)).table_valued("value").c.value)


def _begin(connection: Connection) -> None:
    """As SQLAlchemy does before a statement: without it each would see a state of its own, and be committed alone."""
    if not connection.in_transaction():
        connection.begin()
