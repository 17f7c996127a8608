"""From a query to SQL of DuckDB over a relation named ``source`` that holds a stream's records.

No text of a query becomes text of SQL: constants are bound parameters or numbers that were written by us, columns have names
that were made up here, and only the names of the result's columns are the user's, as quoted identifiers. Functions are those of
``sql_expressions``; none reads files, settings or the network.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tenantry.master.query.fragments import (
    Fragment,
    Parameter,
    column,
    finite,
    joined,
    literal,
    number,
    put,
    quoted,
    text,
)
from tenantry.master.query.partials import CELLS, partial
from tenantry.master.query.sql_expressions import ExpressionCompiler
from tenantry.master.query.stages import Chain
from tenantry.nql.checking import check_query
from tenantry.nql.fields import Column, FieldType, Schema
from tenantry.nql.refusing import refusal
from tenantry.nql.tree import NOWHERE, Query, Range
from tenantry.nql.typed import (
    ColumnValue,
    ElementStep,
    FieldsStep,
    FrequentStep,
    GroupStep,
    KeepStep,
    NamedValue,
    OrderStep,
    RecordsStep,
    SelectStep,
    SliceStep,
    Step,
    TypedAggregate,
    TypedExpression,
    TypedResult,
)
from tenantry.nql.zones import zone_named

MAX_SQL = 1_000_000
TENANT_COLUMN = "tenantId"


@dataclass(frozen=True, slots=True)
class Statement:
    """One result: its name (empty unless it is a branch of ``fork``), the SQL, its parameters in order, its columns."""

    name: str
    sql: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The statements of a query (several with ``fork``), and the columns of ``source`` that they read.

    ``grain_ms``: where ``source`` has to hold cells of this grain (see ``partials``), None where it holds records.
    """

    statements: tuple[Statement, ...]
    source_columns: frozenset[str]
    grain_ms: int | None = None


def compile_query(
    query: Query,
    schema: Schema,
    *,
    tenants: Collection[str] | None = None,
    limit: int | None = None,
    cells: bool = False,
) -> Compiled:
    """The SQL of a query. Raises QueryInvalid.

    ``tenants``: the GUIDs whose records the caller may see, narrowed to in every statement by the column ``tenantId`` (records
    without one are left out); None narrows nothing. ``limit``: the most rows of each result. ``cells``: the source is that of
    samples and can sum them up, which is made use of where the query allows it.
    """
    checked, grain_ms = check_query(query, schema), None
    if cells:
        summed = partial(checked, zone_named(query.time_zone), query.source.start_ms, query.source.end_ms)
        if summed is not None:
            checked, grain_ms, schema = summed.query, summed.grain_ms, CELLS
    statements, read = [], set[str]()
    for result in checked.results:
        compiler = _ResultCompiler(query, schema, tenants)
        statement, columns = compiler.compile(result, limit)
        if len(statement.sql) > MAX_SQL:
            raise refusal(query.text, NOWHERE, "the query is too large", "Split it, or compare with fewer constants.")
        statements.append(statement)
        read |= columns
    return Compiled(tuple(statements), frozenset(read), grain_ms)


class _ResultCompiler:
    def __init__(self, query: Query, schema: Schema, tenants: Collection[str] | None) -> None:
        self._expressions = ExpressionCompiler(zone_named(query.time_zone))
        self._chain = _source(query, schema, tenants)
        start_ms, end_ms = query.source.start_ms, query.source.end_ms
        if start_ms is not None and end_ms is not None:
            self._expressions.spans[self._chain.names[schema.time]] = (start_ms, end_ms)

    def compile(self, result: TypedResult, limit: int | None) -> tuple[Statement, frozenset[str]]:
        for step in result.steps:
            self._step(step)
        whole, read = self._chain.statement(result.columns, limit)
        return Statement(result.name, whole.text, whole.parameters, result.columns), read

    def _step(self, step: Step) -> None:
        chain = self._chain
        match step:
            case KeepStep(condition):
                where = put(" WHERE {}", self._expressions.compile(condition, chain.names))
                self._bind()
                chain.add(chain.passed(), where)
            case SelectStep(values):
                self._named(values)
            case OrderStep(keys):
                computed = self._computed([value for value, _ in keys])
                chain.order_by([(name, descending) for name, (_, descending) in zip(computed, keys, strict=True)])
            case SliceStep(count, offset, from_end):
                rows = literal(f" LIMIT {count}{f' OFFSET {offset}' if offset else ''}")
                chain.add(chain.passed(), put("{}{}", chain.ordering(backwards=from_end), rows))
            case ElementStep():
                self._element(step)
            case GroupStep():
                self._group(step)
            case FrequentStep():
                self._frequent(step)
            case FieldsStep(described):
                self._fields(described)
            case RecordsStep(described):
                self._records(described)

    # ---- columns

    def _computed(self, values: Sequence[TypedExpression]) -> list[str]:
        """The SQL names under which values stand, computed in a stage of their own unless they are columns already."""
        names, new = [], {}
        for value in values:
            if isinstance(value, ColumnValue):
                names.append(self._chain.names[value.name])
            else:
                name = self._chain.fresh()
                new[name] = self._expressions.truth(value, self._chain.names)
                names.append(name)
        self._bind()
        self._chain.compute(new)
        return names

    def _bind(self) -> None:
        """Computes what the expressions of the next select need more than once."""
        kept: dict[str, Fragment] = {}
        for values in self._expressions.bound():
            self._chain.add({**self._chain.passed(), **kept, **values})
            kept |= {name: column(name) for name in values}

    def _named(self, values: tuple[NamedValue, ...]) -> None:
        computed = self._computed([one.value for one in values])
        self._chain.names = {one.name: name for one, name in zip(values, computed, strict=True)}

    def _element(self, step: ElementStep) -> None:
        chain = self._chain
        whole, raw, place, element = (chain.fresh() for _ in range(4))
        value = self._expressions.compile(step.value, chain.names)
        if step.value.type is FieldType.TEXTS:
            elements = put("list_transform(map_entries({}), lambda e: to_json(e))", value)
        else:
            (one,) = self._computed([step.value])
            value = column(one)
            elements = put(
                "CASE WHEN {} IS NULL THEN CAST([] AS JSON[]) WHEN json_type({}) = 'ARRAY' THEN from_json({}, '[\"JSON\"]') "
                "ELSE [CAST({} AS JSON)] END",
                *(value, value, value, value),
            )
        kept = chain.passed()
        chain.add({**kept, whole: elements})
        unnested = {raw: put("unnest({})", column(whole)), place: put("unnest(range(len({})))", column(whole))}
        chain.add({**kept, **unnested}, needed=frozenset({raw}))
        chain.add(
            {
                **kept,
                place: column(place),
                element: put(
                    "CASE WHEN CAST({} AS VARCHAR) <> 'null' THEN CAST({} AS VARCHAR) END", column(raw), column(raw)
                ),
            }
        )
        chain.names = {**chain.names, step.name: element}
        chain.order = [*chain.order, (place, False)]

    # ---- groups

    def _aggregate(self, one: TypedAggregate, argument: str | None) -> Fragment:
        if argument is None:
            return literal("CAST(count(*) AS DOUBLE)")
        value = column(argument)
        match one.function:
            case "count":
                return put("CAST(count({}) AS DOUBLE)", value)
            case "dc":
                return put("CAST(count(DISTINCT {}) AS DOUBLE)", value)
            case "sum" | "avg":
                return put(f"{one.function}({{}})", value)
            case "min" | "max":
                return put(f"{one.function}({{}})", value)
            case "prc":
                assert isinstance(one.option, float)  # noqa: S101 - the parser
                return put(f"quantile_cont({{}}, {one.option / 100!r})", value)
            case "first" | "last":
                ordering = self._chain.ordering()
                return put(f"{one.function}({{}}{{}}) FILTER (WHERE {{}} IS NOT NULL)", value, ordering, value)
            case _:
                return put("string_agg({}, {}{})", value, text(str(one.option)), self._chain.ordering())

    def _arguments(self, aggregates: tuple[TypedAggregate, ...]) -> list[str | None]:
        """The SQL names of the aggregates' arguments."""
        computed = iter(self._computed([one.argument for one in aggregates if one.argument is not None]))
        return [None if one.argument is None else next(computed) for one in aggregates]

    def _reduce(
        self, keys: dict[str, str], aggregates: tuple[TypedAggregate, ...], where: Fragment | None
    ) -> dict[str, str]:
        """One row for each combination of the keys (SQL names); gives the SQL name of each aggregate."""
        chain = self._chain
        arguments = self._arguments(aggregates)
        results = {one.name: chain.fresh() for one in aggregates}
        columns = {name: column(name) for name in keys.values()}
        for one, argument in zip(aggregates, arguments, strict=True):
            columns[results[one.name]] = self._aggregate(one, argument)
        clauses = put(" WHERE {}", where) if where is not None else literal("")
        if keys:
            clauses = put(
                "{} GROUP BY {}", clauses, joined(", ", [column(name) for name in dict.fromkeys(keys.values())])
            )
        chain.add(columns, clauses)
        sums = {results[one.name] for one in aggregates if one.function in {"sum", "avg"}}
        if sums:
            chain.add({name: finite(column(name)) if name in sums else column(name) for name in columns})
        return results

    def _group(self, step: GroupStep) -> None:
        chain = self._chain
        place = self._ranged(step)
        computed = self._computed([one.value for one in step.keys])
        keys = {one.name: name for one, name in zip(step.keys, computed, strict=True)}
        if place is not None:
            keys = {step.range_name: chain.names["\0range"], **keys}
        for one in step.keys:  # arguments are computed over the rows as they were, with the keys beside them
            chain.names.setdefault(f"\0key {one.name}", keys[one.name])
        present = [put("{} IS NOT NULL", column(keys[name])) for name in sorted(step.dropped)]
        where = joined(" AND ", present) if present else None
        every = {**keys, "\0place": place} if place is not None else keys
        results = self._reduce(every, step.aggregates, where)
        chain.names = {**keys, **results}
        order = [place, *(keys[one.name] for one in step.keys)] if place is not None else list(keys.values())
        chain.order = []
        chain.order_by([(name, False) for name in dict.fromkeys(order)])

    def _ranged(self, step: GroupStep) -> str | None:
        """Joins the ranges that a number lies in; gives the SQL name of the range's number."""
        if step.ranged is None:
            return None
        chain = self._chain
        (value,) = self._computed([step.ranged])
        label, place = chain.fresh(), chain.fresh()
        rows = joined(
            ", ",
            [
                put("({}, {}, {}, {})", literal(str(i)), text(one.label), *_limits(one))
                for i, one in enumerate(step.ranges)
            ],
        )
        clauses = put(
            " JOIN (VALUES {}) AS ranges(place, label, low, high) ON {} >= ranges.low AND {} < ranges.high",
            rows,
            column(value),
            column(value),
        )
        kept = {**chain.passed(), value: column(value)}
        chain.add({**kept, label: literal("ranges.label"), place: literal("ranges.place")}, clauses)
        chain.names = {**chain.names, "\0range": label, "\0place": place}
        return place

    def _frequent(self, step: FrequentStep) -> None:
        chain = self._chain
        named = (*step.groups, *step.fields)
        computed = self._computed([one.value for one in named])
        keys = {one.name: name for one, name in zip(named, computed, strict=True)}
        for one in named:
            chain.names.setdefault(f"\0key {one.name}", keys[one.name])
        present = joined(" AND ", [put("{} IS NOT NULL", column(keys[one.name])) for one in step.fields])
        results = self._reduce(keys, (step.measure,), present)
        chain.names = {**keys, **results}
        groups = [(keys[one.name], False) for one in step.groups]
        ranks = [(results[step.measure.name], not step.rare), *((keys[one.name], False) for one in step.fields)]
        chain.order = ranks
        ordering = chain.ordering()
        parts = joined(", ", [column(name) for name, _ in groups])
        within = put("PARTITION BY {}", parts) if groups else literal("")
        chain.order = []
        chain.order_by([*groups, *ranks])
        chain.add(chain.passed(), put(f" QUALIFY row_number() OVER ({{}}{{}}) <= {int(step.limit)}", within, ordering))

    # ---- rows about rows

    def _fields(self, described: tuple[Column, ...]) -> None:
        chain = self._chain
        counts = {chain.fresh(): put("CAST(count({}) AS DOUBLE)", column(chain.names[one.name])) for one in described}
        chain.add(counts)
        names = [chain.fresh() for _ in range(4)]
        lists = (
            joined(", ", [text(one.name) for one in described]),
            joined(", ", [text(one.type.value) for one in described]),
            joined(", ", [column(one) for one in counts]),
            joined(", ", [literal(str(index)) for index in range(len(described))]),
        )
        columns = {name: put("unnest([{}])", values) for name, values in zip(names, lists, strict=True)}
        chain.add(columns, needed=frozenset(names))
        chain.names = dict(zip(("field", "type", "count"), names[:3], strict=True))
        chain.order = [(names[3], False)]

    def _records(self, described: tuple[Column, ...]) -> None:
        chain = self._chain
        pairs = []
        for one in described:
            value = column(chain.names[one.name])
            shown = put("CAST({} AS JSON)", value) if one.type is FieldType.JSON else value
            pairs.append(put("{}, {}", text(one.name), shown))
        name = chain.fresh()
        chain.compute({name: put("CAST(json_object({}) AS VARCHAR)", joined(", ", pairs))})
        chain.names = {"record": name}


def _limits(one: Range) -> tuple[Fragment, Fragment]:
    low = float("-inf") if one.low is None else one.low
    high = float("inf") if one.high is None else one.high
    return number(low), number(high)


def _source(query: Query, schema: Schema, tenants: Collection[str] | None) -> Chain:
    """The first stage: the records of the stream, in its time range, of the tenants that may be seen."""
    chain = Chain([], {}, [])
    columns = {}
    for name, type_ in schema.columns.items():
        sql = chain.fresh()
        cast = f"CAST({quoted(name)} AS VARCHAR)" if type_ is FieldType.JSON else quoted(name)
        columns[sql] = Fragment(cast, (), frozenset({name}))
        chain.names[name] = sql
    conditions = []
    moment = Fragment(quoted(schema.time), (), frozenset({schema.time}))
    if query.source.start_ms is not None:
        conditions.append(put(f"{{}} >= {query.source.start_ms}", moment))
    if query.source.end_ms is not None:
        conditions.append(put(f"{{}} < {query.source.end_ms}", moment))
    if tenants is not None:
        tenant = Fragment(quoted(TENANT_COLUMN), (), frozenset({TENANT_COLUMN}))
        conditions.append(put("list_contains({}, {})", Fragment("CAST(? AS VARCHAR[])", (sorted(tenants),)), tenant))
    chain.add(columns, put(" WHERE {}", joined(" AND ", conditions)) if conditions else literal(""))
    chain.order = [(chain.names[name], False) for name in schema.order]
    return chain
