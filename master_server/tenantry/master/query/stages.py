"""A statement as a chain of selects, each over the one before it, in which only what is needed further on is computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from tenantry.master.query.fragments import Fragment, column, joined, literal, put, quoted
from tenantry.nql.fields import Column

_NOTHING = Fragment("")
_MAX_ORDER = 16


@dataclass(slots=True)
class Stage:
    """One select: its columns by their SQL names, and what stands behind ``FROM`` the stage before.

    ``needed`` are computed even where nobody reads them, since they decide how many rows there are.
    """

    columns: dict[str, Fragment]
    clauses: Fragment = _NOTHING
    needed: frozenset[str] = frozenset()

    def pruned(self, live: frozenset[str]) -> dict[str, Fragment]:
        """The columns that are read or needed."""
        return {name: value for name, value in self.columns.items() if name in live or name in self.needed}

    def reads(self, live: frozenset[str]) -> frozenset[str]:
        """The columns of the stage before that are read for the live ones."""
        return self.clauses.uses.union(*(value.uses for value in self.pruned(live).values()))


@dataclass(slots=True)
class Chain:
    """Stages so far; ``names``: the SQL name of each column that the query sees; ``order``: SQL names, True descending."""

    stages: list[Stage]
    names: dict[str, str]
    order: list[tuple[str, bool]]
    numbers: count[int] = field(default_factory=count)

    def fresh(self) -> str:
        """A name for a column that no other has."""
        return f"c{next(self.numbers)}"

    def passed(self) -> dict[str, Fragment]:
        """All that there is, as it is."""
        return {one: column(one) for one in (*self.names.values(), *(name for name, _ in self.order))}

    def add(
        self, columns: dict[str, Fragment], clauses: Fragment = _NOTHING, needed: frozenset[str] = frozenset()
    ) -> None:
        """One more stage with these columns."""
        self.stages.append(Stage(columns, clauses, needed))

    def compute(self, values: dict[str, Fragment]) -> None:
        """One more stage that computes columns beside all that there is."""
        if values:
            self.add({**self.passed(), **values})

    def order_by(self, keys: list[tuple[str, bool]]) -> None:
        """Orders by keys, then as before."""
        known = {name for name, _ in keys}
        self.order = [*keys, *(one for one in self.order if one[0] not in known)][:_MAX_ORDER]

    def ordering(self, *, backwards: bool = False) -> Fragment:
        """``ORDER BY`` of the order that the rows have."""
        if not self.order:
            return _NOTHING
        keys = [
            put(
                f"{{}} {'DESC' if descending != backwards else 'ASC'} NULLS {'FIRST' if backwards else 'LAST'}",
                column(name),
            )
            for name, descending in self.order
        ]
        return put(" ORDER BY {}", joined(", ", keys))

    def statement(self, columns: tuple[Column, ...], limit: int | None) -> tuple[Fragment, frozenset[str]]:
        """The whole statement, and which columns of the source it reads."""
        last = {f"r{index}": column(self.names[one.name]) for index, one in enumerate(columns)}
        shown = joined(
            ", ",
            [
                put("{} AS {}", value, literal(quoted(one.name)))
                for one, value in zip(columns, last.values(), strict=True)
            ],
        )
        end = put("{}{}", self.ordering(), literal(f" LIMIT {int(limit)}") if limit is not None else _NOTHING)
        live = shown.uses | end.uses
        texts: list[Fragment] = []
        for index in range(len(self.stages) - 1, -1, -1):
            stage = self.stages[index]
            selected = [put(f"{{}} AS {name}", value) for name, value in stage.pruned(live).items()] or [
                literal("1 AS z")
            ]
            before = literal(f"q{index - 1}" if index else "source")
            body = put("SELECT {} FROM {}{}", joined(", ", selected), before, stage.clauses)
            texts.append(put(f"q{index} AS NOT MATERIALIZED ({{}})", body))
            live = stage.reads(live)
        texts.reverse()
        whole = put("WITH {} SELECT {} FROM {}{}", joined(", ", texts), shown, literal(f"q{len(self.stages) - 1}"), end)
        return whole, live
