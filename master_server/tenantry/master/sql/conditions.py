"""Conditions that SQLite and PostgreSQL write differently."""

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, LargeBinary, all_, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

_FEW = 200


def any_of(connection: Connection, column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """``column IN values`` for any number of values: a statement takes only so many parameters."""
    listed = list(values)
    if len(listed) <= _FEW or isinstance(column.type, LargeBinary):
        return column.in_(listed)
    if is_sqlite(connection):
        return column.in_(select(func.json_each(json.dumps(listed)).table_valued("value").c.value))
    return column == any_(bindparam(None, listed, type_=ARRAY(column.type)))


def none_of(connection: Connection, column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """``column NOT IN values`` for any number of values; the column has no type of bytes and no NULL."""
    listed = list(values)
    if len(listed) <= _FEW:
        return column.not_in(listed)
    if is_sqlite(connection):
        return column.not_in(select(func.json_each(json.dumps(listed)).table_valued("value").c.value))
    return column != all_(bindparam(None, listed, type_=ARRAY(column.type)))


def contains(connection: Connection, column: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """Whether the text holds ``part`` exactly."""
    search = func.instr if is_sqlite(connection) else func.strpos
    return search(column, part) > 0


def is_sqlite(connection: Connection) -> bool:
    """Whether the database is SQLite."""
    return connection.dialect.name == "sqlite"
