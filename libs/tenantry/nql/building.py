"""From lark's parse tree to the tree of a query: what a grammar cannot say is checked here, with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from lark import Token, v_args
from lark.visitors import Transformer_NonRecursive

from tenantry.nql.functions import AGGREGATES, FUNCTIONS, PERCENTILE, short_percentile
from tenantry.nql.patterns import read_pattern
from tenantry.nql.refusing import listed, refusal, suggestion
from tenantry.nql.times import TimeUnreadable, read_interval, read_time
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
    Moment,
    Negative,
    Not,
    Operation,
    Or,
    Pattern,
    Position,
    Presence,
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
from tenantry.nql.zones import Zone

MAX_DEPTH = 32
MAX_COMMANDS = 64
MAX_BRANCHES = 16
MAX_ITEMS = 256  # fields, keys, aggregates or assignments of one command
MAX_CONSTANTS = 10_000  # behind `in`
MAX_NAME = 256
MAX_PATTERN = 1_000
MAX_ROWS = 10_000_000  # behind `limit`, `tail`

_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}
_RANGE = re.compile(r"\s*(\*|-?\d+(?:\.\d+)?)\s*-\s*(\*|-?\d+(?:\.\d+)?)\s*", re.ASCII)


class _Depths:
    """How deep each expression nests, by identity: expressions are kept alive by the builder for as long as it works."""

    def __init__(self) -> None:
        self._depths: dict[int, tuple[int, object]] = {}

    def of(self, node: object) -> int:
        found = self._depths.get(id(node))
        return found[0] if found else 1

    def keep(self, node: object, depth: int) -> None:
        self._depths[id(node)] = (depth, node)


@v_args(inline=True)
class Builder(Transformer_NonRecursive[Token, object]):
    """Builds the tree of one text; used once."""

    def __init__(self, *, text: str, now_ms: int, zone: Zone) -> None:
        super().__init__(visit_tokens=False)
        self._text = text
        self._now_ms = now_ms
        self._zone = zone
        self._depths = _Depths()

    # ---- refusing

    def _refuse(self, at: Position, problem: str, expected: str) -> NoReturn:
        raise refusal(self._text, at, problem, expected)

    def _nested(self, node: Expression, *children: object) -> Expression:
        depth = 1 + max((self._depths.of(one) for one in children), default=0)
        if depth > MAX_DEPTH:
            self._refuse(node.at, f"expressions nest more than {MAX_DEPTH} deep", "Compute a part with `set` before.")
        self._depths.keep(node, depth)
        return node

    def _few(self, items: Sequence[object], at: Position, most: int = MAX_ITEMS) -> None:
        if len(items) > most:
            self._refuse(at, f"{len(items)} are too many", f"At most {most}.")

    def _distinct(self, names: Sequence[tuple[str, Position]]) -> None:
        seen: set[str] = set()
        for name, at in names:
            if name in seen:
                self._refuse(at, f"two columns are called {name!r}", "Give one of them another name: name=….")
            seen.add(name)

    # ---- words

    def name(self, token: Token) -> Token:
        """A name, without its quotes, still with its place."""
        value = token[1:-1] if token.type == "QUOTED_NAME" else str(token)
        if len(value) > MAX_NAME:
            self._refuse(_at(token), f"a name of {len(value)} characters", f"At most {MAX_NAME} characters.")
        return Token.new_borrow_pos("NAME", value, token)

    def field(self, token: Token) -> Field:
        """A field."""
        return Field(str(self.name(token)), at=_at(token))

    def integer(self, token: Token) -> int:
        """A whole number that counts rows."""
        if not token.isdigit() or len(token) > 9 or int(token) > MAX_ROWS:
            self._refuse(
                _at(token), f"{_short(token)} is no number of rows", f"Expected a whole number up to {MAX_ROWS}."
            )
        return int(token)

    def constant(self, token: Token) -> Constant:
        """A constant of any type."""
        at = _at(token)
        if token.type == "NUMBER":
            number = float(token)
            if number == float("inf"):
                self._refuse(at, f"{_short(token)} is too great a number", "Expected a number below 1.8e308.")
            return Constant(number, at=at)
        if token.type == "STRING":
            return Constant(self._string(token), at=at)
        if token.type in {"MOMENT", "ISO_TIME"}:
            return Constant(Moment(self._time(str(token), at)), at=at)
        return Constant({"TRUE": True, "FALSE": False}.get(token.type), at=at)

    def _string(self, token: Token) -> str:
        def unescape(match: re.Match[str]) -> str:
            what = match[1]
            if len(what) == 5:
                return chr(int(what[1:], 16))
            return _ESCAPED.get(what, match[0])

        text = _ESCAPE.sub(unescape, token[1:-1])
        if any(one == "\0" or "\ud800" <= one <= "\udfff" for one in text):
            self._refuse(_at(token), "a character that no text can hold", "Expected text without it.")
        return text

    def _time(self, text: str, at: Position) -> int:
        try:
            return read_time(text, self._now_ms, self._zone)
        except TimeUnreadable as problem:
            self._refuse(
                at, str(problem), "Expected @now, -15m@now, -1h@2026-01-31T08:00Z, ISO 8601 or epoch milliseconds."
            )

    def moment(self, token: Token) -> int:
        """A time of the source."""
        return self._time(self._string(token) if token.type == "STRING" else str(token), _at(token))

    def sign_number(self, *tokens: Token) -> int:
        """Epoch milliseconds of the source."""
        return self._time("".join(tokens), _at(tokens[0]))

    # ---- expressions

    def call(self, token: Token, *arguments: Expression) -> Expression:
        """A function or an aggregate; which of them may stand where is decided by what it stands in."""
        at = _at(token)
        found = {one.lower(): one for one in (*FUNCTIONS, *AGGREGATES)}.get(token.lower())
        if found == "now":
            if arguments:
                self._refuse(at, "now() takes no arguments", "Expected now().")
            return Constant(Moment(self._now_ms), at=at)
        name = found or (str(token).lower() if short_percentile(token.lower()) is not None else None)
        if name is None:
            known = (*FUNCTIONS, *AGGREGATES)
            self._refuse(at, f"{_short(token)} is no function", f"Expected a function.{suggestion(token, known)}")
        self._few(arguments, at)
        return self._nested(Call(name, arguments, at=at), *arguments)

    def minus(self, token: Token, operand: Expression) -> Expression:
        """A negative number, or minus something."""
        if isinstance(operand, Constant) and isinstance(operand.value, float):
            return Constant(-operand.value, at=_at(token))
        return self._nested(Negative(operand, at=_at(token)), operand)

    def arithmetic(self, left: Expression, token: Token, right: Expression) -> Expression:
        """Two operands."""
        return self._nested(Arithmetic(Operation(str(token)), left, right, at=left.at), left, right)

    def choice(self, token: Token, condition: Expression, then: Expression, otherwise: Expression) -> Expression:
        """``if``."""
        return self._nested(Choice(condition, then, otherwise, at=_at(token)), condition, then, otherwise)

    def relation(self, token: Token) -> Token:
        """The operator of a comparison."""
        return token

    def _right_side(self, right: Expression) -> Constant:
        if not isinstance(right, Constant):
            self._refuse(
                right.at,
                "the right side of a comparison is no constant",
                "Expected a number, a text in quotes, a time, true or false; compare two fields by `set d = a - b | where d > 0`.",
            )
        return right

    def compare(self, left: Expression, token: Token, right: Expression) -> Expression:
        """A value beside a constant."""
        return self._nested(Comparison(Relation(str(token)), left, self._right_side(right), at=left.at), left)

    def matches(self, left: Expression, token: Token, regex: Token) -> Expression:
        """A value beside a pattern."""
        ignore_case = regex.endswith("i")
        body = regex[1 : -2 if ignore_case else -1].replace("\\/", "/")
        if len(body) > MAX_PATTERN:
            self._refuse(_at(regex), f"a regular expression of {len(body)} characters", f"At most {MAX_PATTERN}.")
        try:
            read_pattern(body, ignore_case=ignore_case)
        except ValueError as problem:
            self._refuse(
                _at(regex), f"the regular expression is wrong: {str(problem)[:200]}", "Expected the syntax of RE2."
            )
        pattern = Pattern(body, ignore_case, at=_at(regex))
        return self._nested(Comparison(Relation(str(token)), left, pattern, at=left.at), left)

    def _membership(self, left: Expression, rights: Sequence[Expression], negated: bool) -> Expression:
        self._few(rights, left.at, MAX_CONSTANTS)
        constants = tuple(self._right_side(one) for one in rights)
        return self._nested(Membership(left, constants, negated, at=left.at), left)

    def is_in(self, left: Expression, _in: Token, *rights: Expression) -> Expression:
        """``in``."""
        return self._membership(left, rights, negated=False)

    def is_not_in(self, left: Expression, _in: Token, *rights: Expression) -> Expression:
        """``notIn``."""
        return self._membership(left, rights, negated=True)

    def _presence(self, left: Expression, token: Token) -> Expression:
        return self._nested(PresenceTest(left, Presence(str(token)), at=left.at), left)

    is_null = is_not_null = is_empty = is_not_empty = _presence

    def negation(self, token: Token, operand: Expression) -> Expression:
        """``not``."""
        return self._nested(Not(operand, at=_at(token)), operand)

    def conjunction(self, *parts: Expression | Token) -> Expression:
        """``and``."""
        operands = tuple(one for one in parts if not isinstance(one, Token))
        return self._nested(And(operands, at=operands[0].at), *operands)

    def disjunction(self, *parts: Expression | Token) -> Expression:
        """``or``."""
        operands = tuple(one for one in parts if not isinstance(one, Token))
        return self._nested(Or(operands, at=operands[0].at), *operands)

    # ---- commands that keep rows

    def where(self, token: Token, condition: Expression) -> Where:
        """``where``."""
        return Where(condition, at=_at(token))

    def where_bare(self, condition: Expression) -> Where:
        """A bare condition."""
        return Where(condition, at=condition.at)

    def projected(self, *parts: Token) -> Projected:
        """One field of ``project``."""
        sign = Sign(str(parts[0])) if parts[0].type in {"PLUS", "MINUS"} else Sign.ONLY
        names = [one for one in parts if one.type == "NAME"]
        alias = str(names[1]) if len(names) > 1 else None
        if alias is not None and sign is Sign.REMOVE:
            self._refuse(_at(names[1]), "what is taken away needs no other name", "Expected -field.")
        return Projected(str(names[0]), sign, alias, at=_at(names[0]))

    def project(self, token: Token, *items: Projected) -> Project:
        """``project``."""
        self._few(items, _at(token))
        if len({one.sign is Sign.ONLY for one in items}) > 1:
            odd = next(one for one in items if (one.sign is Sign.ONLY) != (items[0].sign is Sign.ONLY))
            self._refuse(
                odd.at,
                "fields with and without a sign in one project",
                "Expected all with + or - (changing what is there) or none (only these).",
            )
        self._distinct([(one.alias or one.field, one.at) for one in items if one.sign is not Sign.REMOVE])
        return Project(items, at=_at(token))

    def assignment(self, name: Token, value: Expression) -> Assignment:
        """One column of ``set`` or ``add``."""
        return Assignment(str(name), value, at=_at(name))

    def _assigned(self, token: Token, items: tuple[Assignment, ...], adds: bool) -> Set:
        self._few(items, _at(token))
        self._distinct([(one.name, one.at) for one in items])
        return Set(items, adds, at=_at(token))

    def set(self, token: Token, *items: Assignment) -> Set:
        """``set``."""
        return self._assigned(token, items, adds=False)

    def add(self, token: Token, *items: Assignment) -> Set:
        """``add``."""
        return self._assigned(token, items, adds=True)

    def sort_key(self, name: Token, direction: Token | None = None) -> SortKey:
        """One key of ``sort``."""
        return SortKey(str(name), direction is not None and direction.type == "DESC", at=_at(name))

    def sort(self, token: Token, *keys: SortKey) -> Sort:
        """``sort``."""
        self._few(keys, _at(token))
        return Sort(keys, at=_at(token))

    def limit(self, token: Token, first: int, second: int | None = None) -> Limit:
        """``limit``."""
        if second is None:
            return Limit(first, at=_at(token))
        return Limit(second, first, at=_at(token))

    def tail(self, token: Token, count: int) -> Tail:
        """``tail``."""
        return Tail(count, at=_at(token))

    def fields(self, token: Token) -> Fields:
        """``fields``."""
        return Fields(at=_at(token))

    def records(self, token: Token) -> Records:
        """``records``."""
        return Records(at=_at(token))

    def unwind(self, token: Token, field: Field, *alias: Token) -> Unwind:
        """``unwind``."""
        return Unwind(field, str(alias[-1]) if alias else None, at=_at(token))

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
        return "by", items, _at(_by)

    def unwind_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``unwind=``."""
        return "unwind", rest[-1], _at(token)

    def limit_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``limit=``."""
        return "limit", rest[-1], _at(token)

    def interval_option(self, token: Token, *rest: Token) -> tuple[str, object, Position]:
        """``interval=``."""
        written = rest[-1]
        text = self._string(written) if written.type == "STRING" else str(written)
        return "interval", self.interval(text, _at(written)), _at(token)

    def interval(self, text: str, at: Position) -> Interval:
        """An interval out of a text."""
        try:
            return read_interval(text)
        except TimeUnreadable as problem:
            self._refuse(at, str(problem), "Expected a number and one of ms s m h d w M y, such as 5m.")

    def on_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``on``."""
        return "on", rest[-1], _at(token)

    def alias_option(self, token: Token, *rest: Token) -> tuple[str, object, Position]:
        """``bucketAlias=``."""
        written = rest[-1]
        name = self._string(written) if written.type == "STRING" else str(self.name(written))
        if not name or len(name) > MAX_NAME or not name.isprintable():
            self._refuse(_at(written), "no name for a column", f"Expected 1 to {MAX_NAME} printable characters.")
        return "alias", name, _at(token)

    def ranges_option(self, token: Token, *rest: Token) -> tuple[str, object, Position]:
        """``ranges=``."""
        written = rest[-1]
        ranges = tuple(self._range(one, _at(written)) for one in self._string(written).split(","))
        self._few(ranges, _at(written))
        self._distinct([(one.label, _at(written)) for one in ranges])
        return "ranges", ranges, _at(token)

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
        return Top(fields, tuple(groups), measure, limit, rare, at=_at(token))

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
        return Aggr(aggregates, groups, _field(found.get("unwind")), at=_at(token))

    def time_aggr(self, token: Token, items: object, *options: tuple[str, object, Position]) -> TimeAggr:
        """``timeAggr``."""
        found = self._options(options)
        aggregates, groups = self._aggregates(items), self._groups(found.get("by"))
        interval = found.get("interval")
        if not isinstance(interval, Interval):
            self._refuse(_at(token), "timeAggr without an interval", 'Expected interval="5m" or another span.')
        self._distinct(_names([*groups, *aggregates]))
        alias, on = found.get("alias"), _field(found.get("on"))
        return TimeAggr(
            aggregates,
            interval,
            groups,
            on,
            alias if isinstance(alias, str) else None,
            _field(found.get("unwind")),
            at=_at(token),
        )

    def range_aggr(self, token: Token, items: object, *options: tuple[str, object, Position]) -> RangeAggr:
        """``rangeAggr``."""
        found = self._options(options)
        aggregates, groups = self._aggregates(items), self._groups(found.get("by"))
        on, ranges = _field(found.get("on")), found.get("ranges")
        if on is None:
            self._refuse(_at(token), "rangeAggr without a field", "Expected `on field`.")
        if not isinstance(ranges, tuple):
            self._refuse(_at(token), "rangeAggr without ranges", 'Expected ranges="0-5000,8000-10000".')
        alias = found.get("alias")
        called = alias if isinstance(alias, str) else "range"
        self._distinct([(called, _at(token)), *_names([*groups, *aggregates])])
        return RangeAggr(aggregates, on, ranges, groups, called, _field(found.get("unwind")), at=_at(token))

    # ---- the whole

    def branch(self, name: Token, *rest: object) -> Branch:
        """One result of ``fork``."""
        commands = rest[-1]
        assert isinstance(commands, tuple)  # noqa: S101 - the grammar
        nested = next((one for one in commands if isinstance(one, Fork)), None)
        if nested is not None:
            self._refuse(nested.at, "fork inside of fork", "Expected other commands.")
        return Branch(str(name), commands, at=_at(name))

    def fork(self, token: Token, *branches: Branch) -> Fork:
        """``fork``."""
        self._few(branches, _at(token), MAX_BRANCHES)
        self._distinct([(one.name, one.at) for one in branches])
        return Fork(branches, at=_at(token))

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
            self._refuse(_at(written), "no name of a stream", 'Expected stream="metricsMaster" or another stream.')
        return "stream", name, _at(_word)

    def start_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``startTime=``."""
        return "startTime", rest[-1], _at(token)

    def end_option(self, token: Token, *rest: object) -> tuple[str, object, Position]:
        """``endTime=``."""
        return "endTime", rest[-1], _at(token)

    def source(self, token: Token, *options: tuple[str, object, Position]) -> Source:
        """``src``."""
        found = self._options(options)
        stream, start, end = found.get("stream"), found.get("startTime"), found.get("endTime")
        if not isinstance(stream, str):
            self._refuse(_at(token), "a source without a stream", 'Expected stream="metricsMaster" or another stream.')
        start_ms = start if isinstance(start, int) else None
        end_ms = end if isinstance(end, int) else None
        if start_ms is not None and end_ms is not None and end_ms < start_ms:
            self._refuse(_at(token), "endTime lies before startTime", "Expected a later endTime.")
        return Source(stream, start_ms, end_ms, at=_at(token))

    def query(self, source: Source, *commands: Command) -> tuple[Source, tuple[Command, ...]]:
        """The whole."""
        return source, self.pipeline(*commands)


def _at(token: Token) -> Position:
    return Position(token.line or 1, token.column or 1)


def _short(token: str) -> str:
    text = str(token)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


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
