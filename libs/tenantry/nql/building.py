"""From lark's parse tree to the tree of a query: commands, and what must not stand inside of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token, v_args

from tenantry.nql.building_expressions import MAX_NAME, ExpressionBuilder, place_of
from tenantry.nql.functions import AGGREGATES, FUNCTIONS, PERCENTILE, short_percentile
from tenantry.nql.refusing import listed, refusal
from tenantry.nql.times import TimeUnreadable, read_interval
from tenantry.nql.tree import (
    NOWHERE,
    Aggr,
    Aggregate,
    And,
    Arithmetic,
    Assignment,
    Branch,
    Call,
    Choice,
    Command,
    Comparison,
    Constant,
    Expression,
    Field,
    Fields,
    Fork,
    Group,
    Interval,
    Limit,
    Membership,
    Negative,
    Not,
    Or,
    Position,
    PresenceTest,
    Project,
    Projected,
    Range,
    RangeAggr,
    Records,
    Relation,
    Set,
    Sign,
    Sort,
    SortKey,
    Source,
    Tail,
    TimeAggr,
    Top,
    Unwind,
    Where,
)

MAX_COMMANDS = 64
MAX_BRANCHES = 16

_RANGE = re.compile(r"\s*(\*|-?\d+(?:\.\d+)?)\s*-\s*(\*|-?\d+(?:\.\d+)?)\s*", re.ASCII)


@v_args(inline=True)
class Builder(ExpressionBuilder):
    """Builds the tree of one text; used once."""

    # ---- commands that keep rows

    def where(self, token: Token, condition: Expression) -> Where:
        """``where``."""
        return Where(condition, at=place_of(token))

    def where_bare(self, condition: Expression) -> Where:
        """A bare condition."""
        return Where(condition, at=condition.at)

    def projected(self, *parts: Token) -> Projected:
        """One field of ``project``."""
        sign = Sign(str(parts[0])) if parts[0].type in {"PLUS", "MINUS"} else Sign.ONLY
        names = [one for one in parts if one.type == "NAME"]
        alias = str(names[1]) if len(names) > 1 else None
        if alias is not None and sign is Sign.REMOVE:
            self._refuse(place_of(names[1]), "what is taken away needs no other name", "Expected -field.")
        return Projected(str(names[0]), sign, alias, at=place_of(names[0]))

    def project(self, token: Token, *items: Projected) -> Project:
        """``project``."""
        self._few(items, place_of(token))
        if len({one.sign is Sign.ONLY for one in items}) > 1:
            odd = next(one for one in items if (one.sign is Sign.ONLY) != (items[0].sign is Sign.ONLY))
            self._refuse(
                odd.at,
                "fields with and without a sign in one project",
                "Expected all with + or - (changing what is there) or none (only these).",
            )
        self._distinct([(one.alias or one.field, one.at) for one in items if one.sign is not Sign.REMOVE])
        return Project(items, at=place_of(token))

    def assignment(self, name: Token, value: Expression) -> Assignment:
        """One column of ``set`` or ``add``."""
        return Assignment(str(name), value, at=place_of(name))

    def _assigned(self, token: Token, items: tuple[Assignment, ...], adds: bool) -> Set:
        self._few(items, place_of(token))
        self._distinct([(one.name, one.at) for one in items])
        return Set(items, adds, at=place_of(token))

    def set(self, token: Token, *items: Assignment) -> Set:
        """``set``."""
        return self._assigned(token, items, adds=False)

    def add(self, token: Token, *items: Assignment) -> Set:
        """``add``."""
        return self._assigned(token, items, adds=True)

    def sort_key(self, name: Token, direction: Token | None = None) -> SortKey:
        """One key of ``sort``."""
        return SortKey(str(name), direction is not None and direction.type == "DESC", at=place_of(name))

    def sort(self, token: Token, *keys: SortKey) -> Sort:
        """``sort``."""
        self._few(keys, place_of(token))
        return Sort(keys, at=place_of(token))

    def limit(self, token: Token, first: int, second: int | None = None) -> Limit:
        """``limit``."""
        if second is None:
            return Limit(first, at=place_of(token))
        return Limit(second, first, at=place_of(token))

    def tail(self, token: Token, count: int) -> Tail:
        """``tail``."""
        return Tail(count, at=place_of(token))

    def fields(self, token: Token) -> Fields:
        """``fields``."""
        return Fields(at=place_of(token))

    def records(self, token: Token) -> Records:
        """``records``."""
        return Records(at=place_of(token))

    def unwind(self, token: Token, field: Field, *alias: Token) -> Unwind:
        """``unwind``."""
        return Unwind(field, str(alias[-1]) if alias else None, at=place_of(token))

    # ---- commands that aggregate

    def field_list(self, *fields: Field) -> tuple[Field, ...]:
        """The fields of ``top`` and ``rare``."""
        self._few(fields, fields[0].at)
        return fields

    def named(self, *parts: Token | Expression) -> tuple[Token | None, Expression]:
        """Something that may have been given a name."""
        first, last = parts[0], parts[-1]
        assert not isinstance(last, Token)  # noqa: S101 - the grammar
        return (first if isinstance(first, Token) else None), last

    def named_list(self, *items: tuple[Token | None, Expression]) -> tuple[tuple[Token | None, Expression], ...]:
        """The aggregates or the groups of a command."""
        self._few(items, items[0][1].at)
        return items

    def by(self, _by: Token, items: object) -> tuple[str, object, Position]:
        """``by``."""
        return "by", items, place_of(_by)

    def unwind_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``unwind=``."""
        return "unwind", rest[-1], place_of(token)

    def limit_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``limit=``."""
        return "limit", rest[-1], place_of(token)

    def interval_option(self, token: Token, *rest: Token) -> tuple[str, object, Position]:
        """``interval=``."""
        written = rest[-1]
        text = self._string(written) if written.type == "STRING" else str(written)
        return "interval", self.interval(text, place_of(written)), place_of(token)

    def interval(self, text: str, at: Position) -> Interval:
        """An interval out of a text."""
        try:
            return read_interval(text)
        except TimeUnreadable as problem:
            self._refuse(at, str(problem), "Expected a number and one of ms s m h d w M y, such as 5m.")

    def on_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``on``."""
        return "on", rest[-1], place_of(token)

    def alias_option(self, token: Token, *rest: Token) -> tuple[str, object, Position]:
        """``bucketAlias=``."""
        written = rest[-1]
        name = self._string(written) if written.type == "STRING" else str(self.name(written))
        if not name or len(name) > MAX_NAME or not name.isprintable():
            self._refuse(place_of(written), "no name for a column", f"Expected 1 to {MAX_NAME} printable characters.")
        return "alias", name, place_of(token)

    def ranges_option(self, token: Token, *rest: Token) -> tuple[str, object, Position]:
        """``ranges=``."""
        written = rest[-1]
        ranges = tuple(self._range(one, place_of(written)) for one in self._string(written).split(","))
        self._few(ranges, place_of(written))
        self._distinct([(one.label, place_of(written)) for one in ranges])
        return "ranges", ranges, place_of(token)

    def _range(self, text: str, at: Position) -> Range:
        match = _RANGE.fullmatch(text)
        if match is None:
            self._refuse(
                at, f"{text[:40]!r} is no range", "Expected low-high, such as 0-5000, with * where it is open."
            )
        low = None if match[1] == "*" else float(match[1])
        high = None if match[2] == "*" else float(match[2])
        if low is not None and high is not None and not low < high:
            self._refuse(
                at, f"the range {text.strip()[:40]!r} is empty", "Expected a lower number before a higher one."
            )
        return Range(low, high, text.strip())

    def _options(self, options: Sequence[tuple[str, object, Position]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value, at in options:
            if name in found:
                self._refuse(at, f"{name} twice in one command", "Expected it once.")
            found[name] = value
        return found

    def _aggregate(self, name: Token | None, value: Expression) -> Aggregate:
        """An aggregate with its option and its name. Raises QueryInvalid."""
        if not isinstance(value, Call) or value.function in FUNCTIONS:
            known = listed(AGGREGATES)
            self._refuse(value.at, "no aggregate", f"Expected {known}; compute with results in a `set` behind.")
        short = short_percentile(value.function)
        function = value.function if short is None else "prc"
        most = {"prc": 2 if short is None else 1, "join": 2}.get(function, 1)
        least = 0 if function == "count" else 1
        if not least <= len(value.arguments) <= most:
            self._refuse(
                value.at,
                f"{value.function}() with {len(value.arguments)} arguments",
                f"Expected {function}({'x' if least else ''}).",
            )
        argument = value.arguments[0] if value.arguments else None
        option: float | str | None = short
        if len(value.arguments) == 2:
            option = self._option(function, value.arguments[1])
        elif function == "prc" and option is None:
            option = PERCENTILE
        self._no_aggregates(argument)
        called = str(name) if name is not None else _called(function, argument, option)
        if len(called) > MAX_NAME:
            self._refuse(value.at, "an aggregate without a name", "Give it one: name=….")
        return Aggregate(called, function, argument, option, at=value.at)

    def _option(self, function: str, written: Expression) -> float | str:
        key = {"prc": "k", "join": "sep"}[function]
        if isinstance(written, Comparison) and written.relation is Relation.EQUAL and written.left == Field(key):
            written = written.right if isinstance(written.right, Constant) else written
        value = written.value if isinstance(written, Constant) else None
        if function == "prc":
            if isinstance(value, float) and 0 <= value <= 100:
                return value
            raise refusal(self._text, written.at, "no percentile", "Expected k=95 or another number from 0 to 100.")
        if isinstance(value, str) and len(value) <= 100:
            return value
        raise refusal(
            self._text, written.at, "no separator", 'Expected sep="," or another text of at most 100 characters.'
        )

    def _no_aggregates(self, value: Expression | None) -> None:
        """Refuses an aggregate inside of an expression: there it could not be computed row by row."""
        waiting = [value]
        while waiting:
            one = waiting.pop()
            match one:
                case Call() if one.function not in FUNCTIONS:
                    self._refuse(
                        one.at, f"{one.function}() inside of an expression", "Expected it as a column of `aggr`."
                    )
                case Call():
                    waiting += one.arguments
                case Negative() | Not():
                    waiting.append(one.operand)
                case Arithmetic():
                    waiting += (one.left, one.right)
                case Choice():
                    waiting += (one.condition, one.then, one.otherwise)
                case Comparison() | Membership() | PresenceTest():
                    waiting.append(one.left)
                case And() | Or():
                    waiting += one.operands
                case _:
                    pass

    def _group(self, name: Token | None, value: Expression) -> Group:
        self._no_aggregates(value)
        if name is None and not isinstance(value, Field):
            self._refuse(value.at, "a group without a name", "Expected a field, or name=expression.")
        return Group(
            str(name) if name is not None else value.name if isinstance(value, Field) else "", value, at=value.at
        )

    def _groups(self, items: object) -> tuple[Group, ...]:
        return tuple(self._group(name, value) for name, value in items) if isinstance(items, tuple) else ()

    def _frequent(
        self, token: Token, fields: tuple[Field, ...], options: Sequence[tuple[str, object, Position]], rare: bool
    ) -> Top:
        found = self._options(options)
        items = found.get("by", ())
        measures: list[Aggregate] = []
        groups: list[Group] = []
        for name, value in items if isinstance(items, tuple) else ():
            if isinstance(value, Call) and value.function not in FUNCTIONS:
                measures.append(self._aggregate(name, value))
            else:
                groups.append(self._group(name, value))
        if len(measures) > 1:
            self._refuse(measures[1].at, "two measures", "Expected one aggregate behind by.")
        measure = measures[0] if measures else Aggregate("count", "count")
        columns: list[Group | Field | Aggregate] = [*groups, *fields, measure]
        self._distinct(_names(columns))
        limit = found.get("limit", 10)
        assert isinstance(limit, int)  # noqa: S101 - the grammar
        return Top(fields, tuple(groups), measure, limit, rare, at=place_of(token))

    def top(self, token: Token, fields: tuple[Field, ...], *options: tuple[str, object, Position]) -> Top:
        """``top``."""
        return self._frequent(token, fields, options, rare=False)

    def rare(self, token: Token, fields: tuple[Field, ...], *options: tuple[str, object, Position]) -> Top:
        """``rare``."""
        return self._frequent(token, fields, options, rare=True)

    def _aggregates(self, items: object) -> tuple[Aggregate, ...]:
        return tuple(self._aggregate(name, value) for name, value in items) if isinstance(items, tuple) else ()

    def aggr(self, token: Token, items: object, *options: tuple[str, object, Position]) -> Aggr:
        """``aggr``."""
        found = self._options(options)
        aggregates, groups = self._aggregates(items), self._groups(found.get("by"))
        self._distinct(_names([*groups, *aggregates]))
        return Aggr(aggregates, groups, _field(found.get("unwind")), at=place_of(token))

    def time_aggr(self, token: Token, items: object, *options: tuple[str, object, Position]) -> TimeAggr:
        """``timeAggr``."""
        found = self._options(options)
        aggregates, groups = self._aggregates(items), self._groups(found.get("by"))
        interval = found.get("interval")
        if not isinstance(interval, Interval):
            self._refuse(place_of(token), "timeAggr without an interval", 'Expected interval="5m" or another span.')
        self._distinct(_names([*groups, *aggregates]))
        alias, on = found.get("alias"), _field(found.get("on"))
        return TimeAggr(
            aggregates,
            interval,
            groups,
            on,
            alias if isinstance(alias, str) else None,
            _field(found.get("unwind")),
            at=place_of(token),
        )

    def range_aggr(self, token: Token, items: object, *options: tuple[str, object, Position]) -> RangeAggr:
        """``rangeAggr``."""
        found = self._options(options)
        aggregates, groups = self._aggregates(items), self._groups(found.get("by"))
        on, ranges = _field(found.get("on")), found.get("ranges")
        if on is None:
            self._refuse(place_of(token), "rangeAggr without a field", "Expected `on field`.")
        if not isinstance(ranges, tuple):
            self._refuse(place_of(token), "rangeAggr without ranges", 'Expected ranges="0-5000,8000-10000".')
        alias = found.get("alias")
        called = alias if isinstance(alias, str) else "range"
        self._distinct([(called, place_of(token)), *_names([*groups, *aggregates])])
        return RangeAggr(aggregates, on, ranges, groups, called, _field(found.get("unwind")), at=place_of(token))

    # ---- the whole

    def branch(self, name: Token, *rest: object) -> Branch:
        """One result of ``fork``."""
        commands = rest[-1]
        assert isinstance(commands, tuple)  # noqa: S101 - the grammar
        nested = next((one for one in commands if isinstance(one, Fork)), None)
        if nested is not None:
            self._refuse(nested.at, "fork inside of fork", "Expected other commands.")
        return Branch(str(name), commands, at=place_of(name))

    def fork(self, token: Token, *branches: Branch) -> Fork:
        """``fork``."""
        self._few(branches, place_of(token), MAX_BRANCHES)
        self._distinct([(one.name, one.at) for one in branches])
        return Fork(branches, at=place_of(token))

    def pipeline(self, *commands: Command) -> tuple[Command, ...]:
        """Commands one behind the other."""
        at = commands[0].at if commands else NOWHERE
        self._few(commands, at, MAX_COMMANDS)
        early = next((one for one in commands[:-1] if isinstance(one, Fork)), None)
        if early is not None:
            self._refuse(early.at, "fork is not the last command", "Expected nothing behind it.")
        for command in commands:
            self._check_expressions(command)
        return commands

    def _check_expressions(self, command: Command) -> None:
        """What is computed row by row holds no aggregate."""
        match command:
            case Where():
                self._no_aggregates(command.condition)
            case Set():
                for one in command.assignments:
                    self._no_aggregates(one.value)
            case _:
                pass

    def condition(self, expression: Expression) -> Expression:
        """A condition on its own."""
        self._no_aggregates(expression)
        return expression

    def stream_option(self, _word: Token, *rest: Token) -> tuple[str, object, Position]:
        """``stream=``."""
        written = rest[-1]
        name = self._string(written) if written.type == "STRING" else str(written)
        if not name or len(name) > MAX_NAME:
            self._refuse(place_of(written), "no name of a stream", 'Expected stream="metricsMaster" or another stream.')
        return "stream", name, place_of(_word)

    def start_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``startTime=``."""
        return "startTime", rest[-1], place_of(token)

    def end_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``endTime=``."""
        return "endTime", rest[-1], place_of(token)

    def source(self, token: Token, *options: tuple[str, object, Position]) -> Source:
        """``src``."""
        found = self._options(options)
        stream, start, end = found.get("stream"), found.get("startTime"), found.get("endTime")
        if not isinstance(stream, str):
            self._refuse(
                place_of(token), "a source without a stream", 'Expected stream="metricsMaster" or another stream.'
            )
        start_ms = start if isinstance(start, int) else None
        end_ms = end if isinstance(end, int) else None
        if start_ms is not None and end_ms is not None and end_ms < start_ms:
            at = next(place for name, _, place in options if name == "endTime")
            self._refuse(at, "endTime lies before startTime", "Expected a later endTime.")
        return Source(stream, start_ms, end_ms, at=place_of(token))

    def query(self, source: Source, *commands: Command) -> tuple[Source, tuple[Command, ...]]:
        """The whole."""
        return source, self.pipeline(*commands)


def _names(columns: Sequence[Group | Field | Aggregate]) -> list[tuple[str, Position]]:
    return [(one.name, one.at) for one in columns]


def _field(value: object) -> Field | None:
    return value if isinstance(value, Field) else None


def _called(function: str, argument: Expression | None, option: float | str | None) -> str:
    """The name of an aggregate that was given none: ``count``, ``avg_value``, ``prc95_value``."""
    percentile = f"{option:g}".replace(".", "_") if function == "prc" and isinstance(option, float) else ""
    if argument is None:
        return function
    return f"{function}{percentile}_{argument.name}" if isinstance(argument, Field) else f"{function}{percentile}"
