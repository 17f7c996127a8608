"""Generated records and queries for them: every command, condition, aggregate and function, nested and one behind the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from tenantry.nql import tree
from tenantry.nql.fields import FieldType, Schema
from tenantry.nql.times import read_interval
from tests.oracles.nql import Oracle
from tests.oracles.nql_values import BOOLEAN, JSON, NUMBER, TEXT, TEXTS, TIME

SCHEMA = Schema(
    {
        "timestamp": FieldType.TIME,
        "seen": FieldType.TIME,
        "tenantId": FieldType.TEXT,
        "tenantName": FieldType.TEXT,
        "word": FieldType.TEXT,
        "value": FieldType.NUMBER,
        "serial": FieldType.NUMBER,
        "ok": FieldType.BOOLEAN,
        "labels": FieldType.TEXTS,
        "fields": FieldType.JSON,
    },
    open=True,
    order=("timestamp", "serial"),
)
TYPES = {name: kind.value for name, kind in SCHEMA.columns.items()}
ZONES = (
    "UTC",
    "Europe/Vienna",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Cairo",
)
PARTS = ("Year", "Month", "Day", "Hour", "Minute", "Second", "Millisecond", "DayOfWeek", "DayOfYear")
UNITS = ("Milliseconds", "Seconds", "Minutes", "Hours", "Days", "Weeks", "Months", "Years")
FORMATS = ("%Y-%m-%d %H:%M:%S.%L", "%j%%%z", "%d.%m.%Y %H:%M", "x")
NOW = 1_774_742_400_000  # 2026-03-29, when clocks go forward in Europe

# fmt: off
WORDS = (
    "", "a", "ab", "Ab", "abc", "b%c", "a_b", "a*b", "x\\y", "é", "Ünï", "12", "-0.5", "1e3", "true", "10.1.2.3",
    "::1", "fe80::1", "::ffff:10.0.0.7", "1.2.3", "2026-03-29", "2026-03-29T02:30", "2026-10-25T02:30:00.5+02:00",
    "29.03.2026 02:30", " a ", "a,b,,c", "line\nbreak", "'", '"', "?", "$1", "0xff", "1_000", "inf", "NaN", " 5",
    "+7.", ".5", "99999999999",
)
# fmt: on
NUMBERS = (0.0, 1.0, -1.0, 2.0, 0.5, -0.25, 3.75, 100.0, 12.0, 1000.0, 7.0)
KEYS = ("a", "b.c", "core", "n")
PATHS = ("size", "user.name", "host.ip", "list", "deep.er.x", "nothing", "mixed")
PATTERNS = ("^a", "b", "[0-9]+", "^$", "a.b", "(a|b)c?", "\\.", "x{2,}", "é")
WILDCARDS = ("*", "a*", "*b", "?", "??", "*a*b*", "a\\*b", "", "%", "_", "x\\\\y", "A?")
SUBNETS = ("10.0.0.0/8", "10.1.2.0/24", "::/0", "fe80::/10", "0.0.0.0/0", "192.168.0.0/16")
INTERVALS = ("1ms", "90s", "5m", "7m", "1h", "6h", "1d", "3d", "1w", "2w", "1M", "5M", "1y")

Made = TypeVar("Made")
Draw = Callable[[st.SearchStrategy[Any]], Any]

_json_leaf = st.sampled_from((None, True, False, 0, 1, 7, -2, 0.5, 12.25, *WORDS))
_moments = st.one_of(
    st.integers(NOW - 3 * 86_400_000, NOW + 86_400_000),
    st.sampled_from(
        (
            0,
            -1,
            NOW,
            1_792_890_000_000,
            1_792_889_999_999,
            1_792_893_600_000,
            1_772_953_200_000,
            951_782_400_000,
            4_102_444_800_000,
            -86_400_001,
        )
    ),
)


@st.composite
def records(draw: Draw, most: int = 14) -> list[dict[str, Any]]:
    """Rows with every kind of value, and with values that are absent."""
    rows = []
    for serial in range(draw(st.integers(0, most))):
        document = {}
        for path in draw(st.lists(st.sampled_from(PATHS), max_size=4, unique=True)):
            value = draw(st.one_of(_json_leaf, st.lists(_json_leaf, max_size=3)))
            if path == "list":
                value = draw(st.lists(_json_leaf, max_size=3))
            if "." in path and draw(st.booleans()):
                for one in reversed(path.split(".")):
                    value = {one: value}
                document.update(value)
            else:
                document[path] = value
        rows.append(
            {
                "timestamp": draw(_moments),
                "seen": draw(st.one_of(st.none(), _moments)),
                "tenantId": draw(st.sampled_from(("t1", "t2", "t3"))),
                "tenantName": draw(st.sampled_from(("Acme", "Borg", "Corner"))),
                "word": draw(st.one_of(st.none(), st.sampled_from(WORDS))),
                "value": draw(st.one_of(st.none(), st.sampled_from(NUMBERS))),
                "serial": float(serial),
                "ok": draw(st.sampled_from((None, True, False))),
                "labels": draw(
                    st.one_of(st.none(), st.dictionaries(st.sampled_from(KEYS), st.sampled_from(WORDS), max_size=3))
                ),
                "fields": document if draw(st.integers(0, 9)) else None,
            }
        )
    for row in rows:
        if row["labels"]:
            row["labels"] = dict(sorted(row["labels"].items()))
    return rows


class Maker:
    """Makes expressions and commands over columns whose types are known."""

    def __init__(self, draw: Draw, types: dict[str, str]) -> None:
        self.draw = draw
        self.types = types

    def one(self, of: Sequence[Made]) -> Made:
        """One of several."""
        chosen: Made = self.draw(st.sampled_from(of))
        return chosen

    def columns(self, kind: str) -> list[tree.Expression]:
        """Fields of a type."""
        found: list[tree.Expression] = [tree.Field(name) for name, one in self.types.items() if one == kind]
        for name, one in self.types.items():
            if one == TEXTS and kind == TEXT:
                found += [tree.Field(f"{name}.{key}") for key in KEYS]
            if one == JSON and kind == JSON and name != "fields":
                found += [tree.Field(f"{name}.a")]
        if kind == JSON and self.types.get("fields") == JSON:
            found += [tree.Field(path) for path in PATHS if path not in self.types]
        return found

    def leaf(self, kind: str) -> tree.Expression:
        """A field, else a constant."""
        constants: dict[str, tuple[bool | float | str | tree.Moment | None, ...]] = {
            NUMBER: NUMBERS,
            TEXT: WORDS,
            TIME: (tree.Moment(NOW),),
            BOOLEAN: (True, False),
            JSON: (None,),
        }
        known = self.columns(kind)
        return self.one(known) if known and self.draw(st.integers(0, 5)) else tree.Constant(self.one(constants[kind]))

    def of(self, kind: str, depth: int) -> tree.Expression:
        """An expression of a type."""
        if depth <= 0 or kind == JSON or not self.draw(st.integers(0, 2)):
            return self.leaf(kind)
        if kind == BOOLEAN:
            return self.condition(depth)
        if not self.draw(st.integers(0, 6)):
            return tree.Choice(self.condition(depth - 1), self.of(kind, depth - 1), self.either(kind, depth - 1))
        if not self.draw(st.integers(0, 6)):
            return tree.Call("coalesce", (self.of(kind, depth - 1), self.either(kind, depth - 1)))
        return {NUMBER: self.number, TEXT: self.text, TIME: self.time}[kind](depth - 1)

    def either(self, kind: str, depth: int) -> tree.Expression:
        """The type, or JSON that is read as it, or nothing."""
        return self.made(
            lambda: self.of(kind, depth),
            lambda: self.of(kind, depth),
            lambda: self.leaf(JSON),
            lambda: tree.Constant(None),
        )

    def any(self, depth: int) -> tree.Expression:
        """An expression of some type."""
        return self.of(self.one((NUMBER, TEXT, TIME, BOOLEAN, JSON)), depth)

    def call(self, name: str, *arguments: tree.Expression) -> tree.Expression:
        """A function."""
        return tree.Call(name, arguments)

    def constant(self, of: Sequence[str] | Sequence[float]) -> tree.Expression:
        """A constant."""
        chosen: str | float = self.draw(st.sampled_from(of))
        return tree.Constant(chosen)

    def number(self, depth: int) -> tree.Expression:
        """A computed number."""

        def a() -> tree.Expression:
            return self.number_or_json(depth)

        def t() -> tree.Expression:
            return self.of(TIME, depth)

        def s() -> tree.Expression:
            return self.of(TEXT, depth)

        def negative() -> tree.Expression:
            operand = a()
            return operand if isinstance(operand, tree.Constant) else tree.Negative(operand)

        return self.made(
            lambda: tree.Arithmetic(self.one(tuple(tree.Operation)), a(), a()),
            lambda: tree.Arithmetic(self.one(tuple(tree.Operation)), a(), a()),
            negative,
            lambda: self.call(self.one(("abs", "ceil", "floor", "sign")), a()),
            lambda: self.call(
                "round", self.call(self.one(("sqrt", "exp", "ln", "log10", "log2")), a()), tree.Constant(4.0)
            ),
            lambda: self.call("round", a(), self.constant((0.0, 1.0, 3.0))),
            lambda: self.call("round", self.call("pow", a(), self.constant(NUMBERS[:7])), tree.Constant(4.0)),
            lambda: self.call(self.one(("least", "greatest")), a(), a(), self.of(NUMBER, depth)),
            lambda: self.call("length", s()),
            lambda: self.call("indexOf", s(), s()),
            lambda: self.call("toNumber", self.one((s, t, a))()),
            lambda: tree.Arithmetic(tree.Operation.MINUS, t(), t()),
            lambda: self.call(f"get{self.one(PARTS)}", t()),
            lambda: self.call(f"get{self.one(PARTS)}", t()),
        )

    def made(self, *makers: Callable[[], tree.Expression]) -> tree.Expression:
        """What one of several makes."""
        return self.one(makers)()

    def number_or_json(self, depth: int) -> tree.Expression:
        """What arithmetic takes."""
        return self.leaf(JSON) if not self.draw(st.integers(0, 4)) else self.of(NUMBER, depth)

    def text(self, depth: int) -> tree.Expression:
        """A computed text."""

        def s() -> tree.Expression:
            return self.of(TEXT, depth)

        def n() -> tree.Expression:
            return self.of(NUMBER, depth)

        def part() -> tree.Expression:
            return self.constant(("a", "b", ",", "", ".", "ab"))

        return self.made(
            lambda: self.call(self.one(("lower", "upper", "trim")), s()),
            lambda: self.call("substr", s(), n(), n()),
            lambda: self.call("substr", s(), self.constant((0.0, 1.0, 2.5, -1.0))),
            lambda: self.call("replace", s(), part(), self.constant(("", "x", "ab"))),
            lambda: self.call("splitPart", s(), part(), self.constant((0.0, 1.0, 2.0, -1.0))),
            lambda: self.call("extract", s(), self.constant(("([a-c])(x)?", "[0-9]+", "^a", "(\\w)"))),
            lambda: self.call("extract", s(), self.constant(("([a-c])(x)?", "(a)(b)?")), tree.Constant(2.0)),
            lambda: self.call("concat", s(), self.any(depth), n()),
            lambda: self.call("toText", self.one((lambda: self.any(depth), n))()),
            lambda: self.call("tsToStr", self.of(TIME, depth), self.constant(FORMATS)),
            lambda: self.call("tsToStr", self.of(TIME, depth)),
        )

    def time(self, depth: int) -> tree.Expression:
        """A computed time."""

        def t() -> tree.Expression:
            return self.of(TIME, depth)

        def step() -> tree.Expression:
            steps = (1.0, -1.0, 12.0, 0.5, 1e7, -1e12)
            return self.made(lambda: self.of(NUMBER, depth), lambda: self.constant(steps), lambda: self.constant(steps))

        signs = (tree.Operation.PLUS, tree.Operation.MINUS)
        return self.made(
            lambda: tree.Arithmetic(self.one(signs), t(), step()),
            lambda: self.call(f"add{self.one(UNITS)}", t(), step()),
            lambda: self.call(f"add{self.one(UNITS)}", t(), step()),
            lambda: self.call("timeBucket", t(), self.constant(INTERVALS)),
            lambda: self.call("tsParse", self.of(TEXT, depth)),
            lambda: self.call("tsParse", self.of(TEXT, depth), tree.Constant("%d.%m.%Y %H:%M")),
            lambda: self.call("toTime", self.of(NUMBER, depth)),
        )

    def condition(self, depth: int) -> tree.Expression:
        """A condition."""
        if depth > 0 and not self.draw(st.integers(0, 2)):
            if not self.draw(st.integers(0, 2)):
                return tree.Not(self.condition(depth - 1))
            parts = tuple(self.condition(depth - 1) for _ in range(self.draw(st.integers(2, 3))))
            return tree.And(parts) if self.draw(st.booleans()) else tree.Or(parts)
        kind = self.one((NUMBER, TEXT, TIME, JSON, BOOLEAN))
        left = self.of(kind, depth - 1)
        if isinstance(left, tree.Constant) and left.value is None:
            return tree.PresenceTest(left, self.one(tuple(tree.Presence)))
        if not self.draw(st.integers(0, 3)):
            maps: list[tree.Expression] = [tree.Field(name) for name, one in self.types.items() if one == TEXTS]
            return tree.PresenceTest(self.one((left, *maps)), self.one(tuple(tree.Presence)))
        return self.compared(kind, left)

    def compared(self, kind: str, left: tree.Expression) -> tree.Expression:
        """A comparison with what fits."""
        numbers = tuple(tree.Constant(one) for one in NUMBERS)
        words = tuple(tree.Constant(one) for one in WORDS)
        times = (tree.Constant(tree.Moment(NOW)), tree.Constant("2026-03-29T01:30"), tree.Constant(float(NOW)))
        truths = (tree.Constant(True), tree.Constant("false"))
        fitting: dict[str, tuple[tree.Constant, ...]] = {
            NUMBER: (*numbers, tree.Constant("12")),
            TEXT: (*words, *numbers, tree.Constant(True)),
            TIME: times,
            BOOLEAN: truths,
            JSON: (*words, *numbers, times[0], truths[0]),
        }
        ordered = tree.Relation.LESS, tree.Relation.LESS_OR_EQUAL, tree.Relation.GREATER, tree.Relation.GREATER_OR_EQUAL
        right = self.one(fitting[kind])
        exact = self.one((tree.Relation.EQUAL, tree.Relation.UNEQUAL))
        member = tree.Membership(left, tuple(self.one(fitting[kind]) for _ in range(3)), self.one((True, False)))
        if kind == BOOLEAN:
            return self.one((left, tree.Comparison(exact, left, right), member))
        choices: list[tree.Expression] = [tree.Comparison(exact, left, right), member]
        if not isinstance(right.value, bool):
            choices.append(tree.Comparison(self.one(ordered), left, right))
        if kind != TIME:
            textual = self.one((tree.Relation.CONTAINS, tree.Relation.STARTS_WITH, tree.Relation.ENDS_WITH))
            choices += [
                tree.Comparison(textual, left, self.one(words)),
                tree.Comparison(tree.Relation.LIKE, left, tree.Constant(self.one(WILDCARDS))),
                tree.Comparison(exact, left, tree.Pattern(self.one(PATTERNS), self.one((True, False)))),
            ]
        if kind in {TEXT, JSON}:
            choices += [
                self.call("inSubnet", left, self.constant(SUBNETS), self.constant(SUBNETS)),
                self.call(self.one(("isIp", "isIpv4", "isIpv6", "isPrivateIp")), left),
            ]
        return self.one(choices)

    # ---- commands

    def aggregate(self, name: str) -> tree.Aggregate:
        """An aggregate."""

        def number() -> tree.Expression:
            return self.number_or_json(1)

        def any_() -> tree.Expression:
            return self.one((self.any(1), *self.maps()))

        makers: tuple[Callable[[], tree.Aggregate], ...] = (
            lambda: tree.Aggregate(name, "count"),
            lambda: tree.Aggregate(name, "count", any_()),
            lambda: tree.Aggregate(name, "dc", any_()),
            lambda: tree.Aggregate(name, self.one(("sum", "avg", "min", "max")), number()),
            lambda: tree.Aggregate(name, self.one(("sum", "avg", "min", "max")), number()),
            lambda: tree.Aggregate(name, self.one(("min", "max")), self.of(self.one((TEXT, TIME)), 1)),
            lambda: tree.Aggregate(name, self.one(("first", "last")), any_()),
            lambda: tree.Aggregate(name, "join", self.of(self.one((TEXT, NUMBER)), 1), self.one((",", "", "; "))),
            lambda: tree.Aggregate(name, "prc", number(), self.one((0.0, 25.0, 50.0, 95.0, 100.0))),
        )
        return self.one(makers)()

    def maps(self) -> list[tree.Expression]:
        """Fields that are maps of texts."""
        return [tree.Field(name) for name, one in self.types.items() if one == TEXTS]

    def groups(self) -> tuple[tree.Group, ...]:
        """What to group by."""
        found = []
        for index in range(self.draw(st.integers(0, 2))):
            maps = self.maps()
            value = (
                self.one(maps)
                if maps and not self.draw(st.integers(0, 5))
                else self.of(self.one((TEXT, TEXT, NUMBER, TIME, BOOLEAN, JSON)), 1)
            )
            found.append(tree.Group(f"g{index}", value))
        return tuple(found)

    def lists(self) -> list[tree.Field]:
        """What can be unwound."""
        return [one for one in (*self.columns(JSON), *self.maps()) if isinstance(one, tree.Field)]

    def maybe_unwind(self) -> tree.Field | None:
        """Something to unwind, now and then."""
        lists = self.lists()
        return self.one(lists) if lists and not self.draw(st.integers(0, 4)) else None

    def command(self) -> tree.Command:  # noqa: C901 - one case a command
        """Any command but ``fork``."""
        kind = self.draw(st.integers(0, 15))
        names = list(self.types)
        aggregates: tuple[tree.Aggregate, ...] = ()
        if kind in {10, 11, 12}:
            aggregates = tuple(self.aggregate(f"a{index}") for index in range(self.draw(st.integers(1, 3))))
        match kind:
            case 0 | 1 | 2:
                return tree.Where(self.condition(3))
            case 3:
                return self.project(names)
            case 4 | 5:
                return tree.Set(
                    tuple(
                        tree.Assignment(self.one((f"s{index}", f"s{index}", f"x.{index}")), self.any(3))
                        for index in range(2)
                    )
                )
            case 6:
                keys = tuple(tree.SortKey(one, self.one((True, False))) for one in names if self.types[one] != TEXTS)
                return (
                    tree.Sort(tuple(self.one(keys) for _ in range(self.draw(st.integers(1, 2)))))
                    if keys
                    else tree.Limit(3)
                )
            case 7:
                return tree.Limit(self.draw(st.integers(0, 6)), self.draw(st.integers(0, 3)))
            case 8:
                return tree.Tail(self.draw(st.integers(0, 6)))
            case 9:
                lists = self.lists()
                return tree.Unwind(self.one(lists), self.one((None, "e"))) if lists else tree.Fields()
            case 10:
                return tree.Aggr(aggregates, self.groups(), self.maybe_unwind())
            case 11 if "timestamp" in self.types and self.types["timestamp"] == TIME:
                times = [
                    None,
                    *(one for one in self.columns(TIME) if isinstance(one, tree.Field)),
                    *(one for one in self.columns(JSON) if isinstance(one, tree.Field)),
                ]
                return tree.TimeAggr(
                    aggregates,
                    read_interval(self.one(INTERVALS)),
                    self.groups(),
                    self.one(times),
                    self.one(("t", "bucket")),
                )
            case 12 if self.columns(NUMBER):
                ranges = (
                    tree.Range(0.0, 2.0, "0-2"),
                    tree.Range(1.0, 12.0, "1-12"),
                    tree.Range(None, 0.0, "*-0"),
                    tree.Range(12.0, None, "12-*"),
                )
                on = [one for one in self.columns(NUMBER) if isinstance(one, tree.Field)]
                return tree.RangeAggr(
                    aggregates, self.one(on), ranges[: self.draw(st.integers(1, 4))], self.groups(), "r"
                )
            case 13:
                measure = replace(
                    self.one(
                        [
                            one
                            for one in (self.aggregate("m"), self.aggregate("m"))
                            if one.function in {"count", "sum", "avg", "dc", "prc"}
                        ]
                        or [tree.Aggregate("m", "count")]
                    ),
                    name="m",
                )
                groups = tuple(replace(one, name=f"t{index}") for index, one in enumerate(self.groups()))
                taken = {"m", *(one.name for one in groups)}
                fields = tuple(tree.Field(one) for one in names if one not in taken)[:1]
                if not fields:
                    return tree.Fields()
                return tree.Top(fields, groups, measure, self.draw(st.integers(1, 3)), self.one((True, False)))
            case 14:
                return tree.Fields()
            case _:
                return tree.Records()

    def project(self, names: list[str]) -> tree.Project:
        """``project`` with or without signs."""
        if self.draw(st.booleans()):
            removed = self.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
            items = [tree.Projected(one, tree.Sign.REMOVE) for one in removed if len(names) > len(removed)]
            items.append(tree.Projected(self.one(names), tree.Sign.ADD, "added"))
            return tree.Project(tuple(items))
        chosen = self.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
        return tree.Project(
            tuple(tree.Projected(one, alias=self.one((None, None, f"p{index}"))) for index, one in enumerate(chosen))
        )


@st.composite
def queries(draw: Draw, most: int = 4) -> tree.Query:
    """Whole queries over the schema."""
    zone = draw(st.sampled_from(ZONES))
    start = draw(st.sampled_from((None, None, NOW - 86_400_000, 0)))
    end = draw(st.sampled_from((None, None, NOW, NOW + 86_400_000)))
    query = tree.Query(tree.Source("samples", start, end), (), NOW, zone)
    oracle = Oracle(query, open_column="fields", time="timestamp")

    def commands(types: dict[str, str], count: int) -> tuple[tuple[tree.Command, ...], dict[str, str]]:
        made: list[tree.Command] = []
        for _ in range(count):
            command = Maker(draw, types).command()
            made.append(command)
            types, _ = oracle.command((types, []), command)
        return tuple(made), types

    straight, types = commands(dict(TYPES), draw(st.integers(0, most)))
    if not draw(st.integers(0, 9)):
        branches = tuple(tree.Branch(name, commands(types, draw(st.integers(1, 2)))[0]) for name in ("first", "second"))
        straight = (*straight, tree.Fork(branches))
    return replace(query, commands=straight)
