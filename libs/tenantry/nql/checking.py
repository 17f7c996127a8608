"""Checks a query against the fields of its stream and turns its commands into steps over typed rows."""

from __future__ import annotations

from collections.abc import Sequence

from tenantry.nql.checking_expressions import ExpressionChecker
from tenantry.nql.fields import Column, FieldType, Schema
from tenantry.nql.refusing import listed, suggestion
from tenantry.nql.scope import Scope
from tenantry.nql.tree import (
    Aggr,
    Aggregate,
    Command,
    Field,
    Fields,
    Fork,
    Group,
    Limit,
    Project,
    Query,
    RangeAggr,
    Records,
    Set,
    Sign,
    Sort,
    Tail,
    TimeAggr,
    Top,
    Unwind,
    Where,
)
from tenantry.nql.typed import (
    Applied,
    ColumnValue,
    Converted,
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
    TypedQuery,
    TypedResult,
)
from tenantry.nql.zones import Zone, zone_named

_MAX_COLUMNS = 512


def check_query(query: Query, schema: Schema) -> TypedQuery:
    """The steps of a query over the records of its stream. Raises QueryInvalid."""
    checker = _Checker(query, schema, zone_named(query.time_zone))
    fork = query.commands[-1] if query.commands and isinstance(query.commands[-1], Fork) else None
    straight = query.commands[:-1] if fork else query.commands
    scope = Scope.of_schema(schema)
    steps, scope = checker.steps(straight, scope)
    if fork is None:
        return TypedQuery((TypedResult("", steps, scope.columns),))
    results = []
    for branch in fork.branches:
        more, end = checker.steps(branch.commands, scope)
        results.append(TypedResult(branch.name, (*steps, *more), end.columns))
    return TypedQuery(tuple(results))


class _Checker:
    def __init__(self, query: Query, schema: Schema, zone: Zone) -> None:
        self._expressions = ExpressionChecker(text=query.text, now_ms=query.now_ms, zone=zone)
        self._schema = schema

    def steps(self, commands: Sequence[Command], scope: Scope) -> tuple[tuple[Step, ...], Scope]:
        """Commands one behind the other, and what there is behind the last."""
        steps: list[Step] = []
        for command in commands:
            for step in self._steps(command, scope):
                if len(step.columns) > _MAX_COLUMNS:
                    self._expressions.refuse(command.at, "too many columns", f"Expected at most {_MAX_COLUMNS}.")
                steps.append(step)
                scope = scope.with_columns(step.columns)
        return tuple(steps), scope

    def _steps(self, command: Command, scope: Scope) -> list[Step]:  # noqa: C901 - one case a command
        match command:
            case Where(condition):
                return [KeepStep(self._expressions.condition(condition, scope), scope.columns)]
            case Project():
                return [self._project(command, scope)]
            case Set():
                return [self._set(command, scope)]
            case Sort():
                return [self._sort(command, scope)]
            case Limit(count, offset):
                return [SliceStep(count, offset, from_end=False, columns=scope.columns)]
            case Tail(count):
                return [SliceStep(count, 0, from_end=True, columns=scope.columns)]
            case Top():
                return [self._top(command, scope)]
            case Aggr(aggregates, groups, unwind):
                before, scope = self._unwound(unwind, scope)
                return [*before, self._grouped(aggregates, groups, scope)]
            case TimeAggr():
                return self._time_aggr(command, scope)
            case RangeAggr():
                return self._range_aggr(command, scope)
            case Fields():
                columns = (
                    Column("field", FieldType.TEXT),
                    Column("type", FieldType.TEXT),
                    Column("count", FieldType.NUMBER),
                )
                return [FieldsStep(scope.columns, columns)]
            case Records():
                return [RecordsStep(scope.columns, (Column("record", FieldType.JSON),))]
            case Unwind(field, alias):
                return [self._element(field, alias or field.name, scope)]
            case Fork():  # the parser lets it stand only at the end, where it was taken off
                raise self._expressions.refusal(
                    command.at, "fork is not the last command", "Expected nothing behind it."
                )

    # ---- rows one by one

    def _project(self, command: Project, scope: Scope) -> SelectStep:
        columns: dict[str, TypedExpression] = {}
        if command.items[0].sign is not Sign.ONLY:
            columns = {name: ColumnValue(name, type_) for name, type_ in scope.types.items()}
        for item in command.items:
            if item.sign is Sign.REMOVE:
                if item.field not in scope.types:
                    self._expressions.refuse(
                        item.at,
                        f"there is no column {item.field[:80]!r} here",
                        f"Expected a column: {listed(scope.types)}.{suggestion(item.field, scope.types)}",
                    )
                columns.pop(item.field, None)
            else:
                columns[item.alias or item.field] = scope.find(item.field, self._expressions.text, item.at)
        if not columns:
            self._expressions.refuse(command.at, "no field is left", "Expected at least one.")
        return _select(columns)

    def _set(self, command: Set, scope: Scope) -> SelectStep:
        columns: dict[str, TypedExpression] = {name: ColumnValue(name, type_) for name, type_ in scope.types.items()}
        for one in command.assignments:
            if command.adds and one.name in scope.types:
                self._expressions.refuse(
                    one.at, f"there is a field {one.name!r} already", "Expected a new name; `set` replaces."
                )
            columns[one.name] = self._expressions.value(one.value, scope)
        return _select(columns)

    def _sort(self, command: Sort, scope: Scope) -> OrderStep:
        keys: list[tuple[TypedExpression, bool]] = []
        for key in command.keys:
            value = self._expressions.value(Field(key.field, at=key.at), scope)
            match value.type:
                case FieldType.TEXTS:
                    self._expressions.refuse(
                        key.at, "a map of texts has no order", "Expected one of its entries, such as labels.key."
                    )
                case FieldType.JSON:  # numbers by their size before everything else by its text
                    keys += [
                        (Converted(value, FieldType.NUMBER), key.descending),
                        (Converted(value, FieldType.TEXT), key.descending),
                    ]
                case _:
                    keys.append((value, key.descending))
        return OrderStep(tuple(keys), scope.columns)

    def _element(self, field: Field, name: str, scope: Scope) -> ElementStep:
        value = scope.find(field.name, self._expressions.text, field.at)
        if value.type not in {FieldType.JSON, FieldType.TEXTS}:
            self._expressions.refuse(
                field.at, f"{field.name[:80]!r} is no list", "Expected a field of JSON or a map of texts."
            )
        types = dict(scope.types)
        types[name] = FieldType.JSON
        return ElementStep(value, name, tuple(Column(one, type_) for one, type_ in types.items()))

    def _unwound(self, field: Field | None, scope: Scope) -> tuple[list[Step], Scope]:
        if field is None:
            return [], scope
        step = self._element(field, field.name, scope)
        return [step], scope.with_columns(step.columns)

    # ---- groups

    def _keys(self, groups: Sequence[Group], scope: Scope) -> tuple[NamedValue, ...]:
        return tuple(NamedValue(one.name, self._expressions.grouped(one.value, scope)) for one in groups)

    def _aggregate(self, one: Aggregate, scope: Scope) -> TypedAggregate:
        if one.argument is None:
            return TypedAggregate(one.name, one.function, None, None, FieldType.NUMBER)
        value = self._expressions.grouped(one.argument, scope)
        result = FieldType.NUMBER
        match one.function:
            case "sum" | "avg" | "prc":
                value = self._expressions.as_type(value, FieldType.NUMBER, one.argument.at)
            case "join":
                value = self._expressions.as_type(value, FieldType.TEXT, one.argument.at)
                result = FieldType.TEXT
            case "min" | "max":
                if value.type is FieldType.JSON:
                    value = Converted(value, FieldType.NUMBER)
                if value.type is FieldType.BOOLEAN:
                    problem = f"{one.function}() of true and false"
                    self._expressions.refuse(one.argument.at, problem, "Expected numbers, times or texts.")
                result = value.type
            case "first" | "last":
                result = value.type
            case _:
                pass
        option = one.option if one.option is not None or one.function != "join" else ","
        return TypedAggregate(one.name, one.function, value, option, result)

    def _aggregates(self, aggregates: Sequence[Aggregate], scope: Scope) -> tuple[TypedAggregate, ...]:
        return tuple(self._aggregate(one, scope) for one in aggregates)

    def _grouped(self, aggregates: Sequence[Aggregate], groups: Sequence[Group], scope: Scope) -> GroupStep:
        keys, computed = self._keys(groups, scope), self._aggregates(aggregates, scope)
        return GroupStep(keys, computed, _columns(keys, computed))

    def _time_aggr(self, command: TimeAggr, scope: Scope) -> list[Step]:
        before, scope = self._unwound(command.unwind, scope)
        on = command.on or Field(self._schema.time, at=command.at)
        moment = self._expressions.as_type(self._expressions.value(on, scope), FieldType.TIME, on.at)
        alias = command.alias or on.name
        bucket = NamedValue(alias, Applied("timeBucket", (moment,), FieldType.TIME, (command.interval,)))
        others, aggregates = self._keys(command.groups, scope), self._aggregates(command.aggregates, scope)
        if alias in {*(one.name for one in others), *(one.name for one in aggregates)}:
            self._expressions.refuse(
                command.at, f"two columns are called {alias!r}", "Give the buckets another name: bucketAlias=…."
            )
        keys = (bucket, *others)
        return [*before, GroupStep(keys, aggregates, _columns(keys, aggregates), dropped=frozenset({alias}))]

    def _range_aggr(self, command: RangeAggr, scope: Scope) -> list[Step]:
        before, scope = self._unwound(command.unwind, scope)
        value = self._expressions.value(command.on, scope)
        if value.type is not FieldType.TIME:
            value = self._expressions.as_type(value, FieldType.NUMBER, command.on.at)
        keys, aggregates = self._keys(command.groups, scope), self._aggregates(command.aggregates, scope)
        columns = (Column(command.alias, FieldType.TEXT), *_columns(keys, aggregates))
        return [
            *before,
            GroupStep(keys, aggregates, columns, ranged=value, range_name=command.alias, ranges=command.ranges),
        ]

    def _top(self, command: Top, scope: Scope) -> FrequentStep:
        groups = self._keys(command.groups, scope)
        fields = tuple(NamedValue(one.name, self._expressions.grouped(one, scope)) for one in command.fields)
        measure = self._aggregate(command.measure, scope)
        if measure.type not in {FieldType.NUMBER, FieldType.TIME, FieldType.TEXT}:
            self._expressions.refuse(
                command.measure.at, "a measure that has no order", "Expected numbers, times or texts."
            )
        columns = _columns((*groups, *fields), (measure,))
        return FrequentStep(groups, fields, measure, command.limit, command.rare, columns)


def _select(columns: dict[str, TypedExpression]) -> SelectStep:
    return SelectStep(
        tuple(NamedValue(name, value) for name, value in columns.items()),
        tuple(Column(name, value.type) for name, value in columns.items()),
    )


def _columns(keys: Sequence[NamedValue], aggregates: Sequence[TypedAggregate]) -> tuple[Column, ...]:
    return (
        *(Column(one.name, one.value.type) for one in keys),
        *(Column(one.name, one.type) for one in aggregates),
    )
