"""Which columns there are at one place of a pipe, and what a name means there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tenantry.nql.fields import Column, FieldType, Schema
from tenantry.nql.refusing import listed, refusal, suggestion
from tenantry.nql.tree import Position
from tenantry.nql.typed import ColumnValue, EntryValue, PathValue, TypedExpression

# What a key of JSON may not hold: DuckDB writes keys of paths in quotes and knows no escape in them.
_NO_KEY = frozenset('"\\')


@dataclass(frozen=True, slots=True)
class Scope:
    """Columns in their order. ``rest``: the JSON column in which unknown names are looked up, while there is one."""

    types: dict[str, FieldType]
    rest: str | None = None

    @classmethod
    def of_schema(cls, schema: Schema) -> Scope:
        """What a stream's source gives."""
        return cls(dict(schema.columns), schema.rest if schema.open else None)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns in order."""
        return tuple(Column(name, type_) for name, type_ in self.types.items())

    def with_columns(self, columns: Iterable[Column]) -> Scope:
        """Other columns; unknown names are looked up as before while the JSON column is among them."""
        types = {one.name: one.type for one in columns}
        return Scope(types, self.rest if self.rest is not None and types.get(self.rest) is FieldType.JSON else None)

    def find(self, name: str, text: str, at: Position) -> TypedExpression:
        """What a name means. Raises QueryInvalid."""
        if name in self.types:
            return ColumnValue(name, self.types[name])
        prefix = name
        while "." in prefix:
            prefix = prefix.rpartition(".")[0]
            key = name[len(prefix) + 1 :]
            if self.types.get(prefix) is FieldType.TEXTS and key:
                return EntryValue(prefix, key)
            if self.types.get(prefix) is FieldType.JSON and key:
                return self._path(prefix, key, text, at)
        if self.rest is not None:
            return self._path(self.rest, name, text, at)
        expected = f"There are {listed(self.types)}." if self.types else "There are no fields here."
        raise refusal(text, at, f"there is no field {name[:80]!r} here", f"{expected}{suggestion(name, self.types)}")

    def _path(self, column: str, key: str, text: str, at: Position) -> PathValue:
        if _NO_KEY & set(key):
            raise refusal(text, at, "quotes in the name of a field", "Expected a name without quotes and backslashes.")
        path = tuple(key.split("."))
        return PathValue(column, key, path if all(path) else (key,))
