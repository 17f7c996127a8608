"""DuckDB over generated records, as the Master's compiler asks it; and the comparison of two tables."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from tenantry.master.query.compiling import compile_query
from tenantry.nql.fields import FieldType, Schema
from tenantry.nql.tree import Query

_ARROW = {
    FieldType.TIME: pa.int64(),
    FieldType.TEXT: pa.string(),
    FieldType.NUMBER: pa.float64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TEXTS: pa.map_(pa.string(), pa.string()),
    FieldType.JSON: pa.string(),
}

Table = tuple[list[str], list[list[Any]]]


@lru_cache(maxsize=1)
def engine() -> duckdb.DuckDBPyConnection:
    """One connection, as closed as the Master's."""
    return duckdb.connect(
        ":memory:", config={"threads": 1, "enable_external_access": "false", "lock_configuration": "true"}
    )


def arrow_table(schema: Schema, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Records as Arrow."""
    arrays = []
    for name, kind in schema.columns.items():
        column = [row[name] for row in rows]
        if kind is FieldType.JSON:
            column = [None if one is None else json.dumps(one, ensure_ascii=False) for one in column]
        if kind is FieldType.TEXTS:
            column = [None if one is None else list(one.items()) for one in column]
        arrays.append(pa.array(column, type=_ARROW[kind]))
    return pa.table(arrays, names=list(schema.columns))


def ask(
    query: Query, schema: Schema, rows: Sequence[dict[str, Any]], tenants: Sequence[str] | None = None
) -> dict[str, Table]:
    """What the compiled query gives: columns and rows of each result by its name."""
    compiled = compile_query(query, schema, tenants=tenants)
    connection = engine()
    connection.register("source", arrow_table(schema, rows))
    try:
        results = {}
        for statement in compiled.statements:
            found = connection.execute(statement.sql, list(statement.parameters)).fetchall()
            kinds = [one.type for one in statement.columns]
            shown = [[_value(cell, kind) for cell, kind in zip(row, kinds, strict=True)] for row in found]
            results[statement.name] = ([one.name for one in statement.columns], shown)
        return results
    finally:
        connection.unregister("source")


def _value(cell: Any, kind: FieldType) -> Any:
    if kind is FieldType.JSON and cell is not None:
        return json.loads(cell)
    assert not (isinstance(cell, float) and not math.isfinite(cell)), "a number that is not finite"
    return cell


def same(left: Any, right: Any) -> bool:
    """Equal, numbers up to the last digits."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return type(left) is type(right) and left == right
