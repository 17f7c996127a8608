"""Checked expressions as SQL of DuckDB. Absent values are NULL; no expression raises an error for any value."""

from __future__ import annotations

from tenantry.master.query.fragments import (
    NULL,
    Binder,
    Fragment,
    column,
    joined,
    literal,
    number,
    put,
    text,
    whole,
)
from tenantry.master.query.sql_addresses import AddressCompiler
from tenantry.master.query.sql_times import TimeCompiler
from tenantry.nql.fields import FieldType
from tenantry.nql.functions import ADDING
from tenantry.nql.tree import Interval, Operation, Presence, Relation, Unit
from tenantry.nql.typed import (
    Applied,
    Chosen,
    ColumnValue,
    Compared,
    Computed,
    ConstantValue,
    Contained,
    Converted,
    EntryValue,
    Every,
    Matched,
    Opposite,
    PathValue,
    Present,
    Some,
    TypedExpression,
    Value,
)
from tenantry.nql.zones import Zone

TYPES = {
    FieldType.TIME: "BIGINT",
    FieldType.TEXT: "VARCHAR",
    FieldType.NUMBER: "DOUBLE",
    FieldType.BOOLEAN: "BOOLEAN",
    FieldType.TEXTS: "MAP(VARCHAR, VARCHAR)",
    FieldType.JSON: "VARCHAR",
}

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_SPACE = " \t\r\n"
_FAR = 1_000_000_000  # more characters or parts than any text has
_LONG_LIST = 64

_RELATIONS = {
    Relation.EQUAL: "({} = {})",
    Relation.UNEQUAL: "({} IS DISTINCT FROM {})",
    Relation.GREATER: "({} > {})",
    Relation.GREATER_OR_EQUAL: "({} >= {})",
    Relation.LESS: "({} < {})",
    Relation.LESS_OR_EQUAL: "({} <= {})",
    Relation.CONTAINS: "contains({}, {})",
    Relation.STARTS_WITH: "starts_with({}, {})",
    Relation.ENDS_WITH: "ends_with({}, {})",
}


def like_pattern(wildcards: str) -> str:
    """``*`` and ``?`` as LIKE with a backslash as its escape; a backslash takes their meaning from them."""
    result = []
    index = 0
    while index < len(wildcards):
        one = wildcards[index]
        if one == "\\" and wildcards[index + 1 : index + 2] in {"*", "?", "\\"}:
            index += 1
            result.append("\\\\" if wildcards[index] == "\\" else wildcards[index])
        elif one in "*?":
            result.append("%" if one == "*" else "_")
        else:
            result.append(f"\\{one}" if one in "\\%_" else one)
        index += 1
    return "".join(result)


class ExpressionCompiler:
    """Expressions over the rows below, whose columns have names that the compiler gave."""

    def __init__(self, zone: Zone) -> None:
        self.spans: dict[str, tuple[int, int]] = {}  # columns of times that lie within limits, by their SQL names
        self._binder = Binder()
        self._times = TimeCompiler(zone, self._binder)
        self._addresses = AddressCompiler(self._binder)

    def bound(self) -> list[dict[str, Fragment]]:
        """The columns that what was compiled since the last time needs below itself, select by select."""
        return self._binder.take()

    def compile(self, value: TypedExpression, columns: dict[str, str]) -> Fragment:  # noqa: C901 - one case a node
        """An expression. ``columns``: the SQL name of each column. A condition may be NULL where it does not hold."""
        match value:
            case ConstantValue(constant, type_):
                return _constant(constant, type_)
            case ColumnValue(name):
                return column(columns[name], self.spans.get(columns[name]))
            case EntryValue(name, key):
                return put("{}[{}]", column(columns[name]), text(key))
            case PathValue(name, key, path):
                return self._path(column(columns[name]), key, path)
            case Converted(operand, type_):
                return self._converted(self.truth(operand, columns), operand.type, type_)
            case Applied():
                return self._applied(value, [self.truth(one, columns) for one in value.arguments])
            case Computed():
                return self._computed(value, columns)
            case Chosen(condition, then, otherwise):
                return put(
                    "CASE WHEN {} THEN {} ELSE {} END",
                    *(self.compile(condition, columns), self.truth(then, columns), self.truth(otherwise, columns)),
                )
            case Compared(relation, left, right):
                return self._compared(relation, left, right, columns)
            case Matched(left, pattern, ignore_case):
                options = "i" if ignore_case else "c"
                return put(f"regexp_matches({{}}, {{}}, '{options}')", self.compile(left, columns), text(pattern))
            case Contained(left, values):
                return self._contained(self.truth(left, columns), left.type, values)
            case Present(left, presence):
                return self._present(self.truth(left, columns), left.type, presence)
            case Opposite(operand):
                return put("(NOT coalesce({}, false))", self.compile(operand, columns))
            case Every(operands):
                return put("({})", joined(" AND ", [self.compile(one, columns) for one in operands]))
            case Some(operands):
                return put("({})", joined(" OR ", [self.compile(one, columns) for one in operands]))

    def truth(self, value: TypedExpression, columns: dict[str, str]) -> Fragment:
        """A value for a column: conditions are true or false, never NULL (a field or a function may be absent)."""
        compiled = self.compile(value, columns)
        if isinstance(value, Compared | Matched | Contained | Every | Some):
            return put("coalesce({}, false)", compiled)
        return compiled

    # ---- parts

    def _path(self, document: Fragment, key: str, path: tuple[str, ...]) -> Fragment:
        def found(*keys: str) -> Fragment:
            place = "$" + "".join(f'."{one}"' for one in keys)
            value = put("CAST(json_extract({}, {}) AS VARCHAR)", document, text(place))
            return self._binder.bind(value, lambda one: put("CASE WHEN {} <> 'null' THEN {} END", one, one))

        if len(path) == 1:
            return found(key)
        return put("coalesce({}, {})", found(key), found(*path))

    def _converted(self, value: Fragment, given: FieldType, wanted: FieldType) -> Fragment:
        if given is FieldType.JSON:
            if wanted is FieldType.TIME:
                return self._binder.bind(value, self._json_time)
            words = put("json_extract_string({}, '$')", value)
            return words if wanted is FieldType.TEXT else self._converted(words, FieldType.TEXT, wanted)
        match wanted:
            case FieldType.NUMBER if given is FieldType.TEXT:
                return self._binder.finite(put("TRY_CAST(regexp_extract({}, {}) AS DOUBLE)", value, text(_NUMBER)))
            case FieldType.NUMBER:
                return put("CAST({} AS DOUBLE)", value)
            case FieldType.BOOLEAN:
                return put("CASE {} WHEN 'true' THEN true WHEN 'false' THEN false END", value)
            case FieldType.TEXT if given is FieldType.NUMBER:
                return put("regexp_replace(CAST({} AS VARCHAR), {}, '')", value, text(r"\.0$"))
            case FieldType.TEXT if given is FieldType.TIME:
                return self._times.written(value)
            case FieldType.TEXT:
                return put("CAST({} AS VARCHAR)", value)
            case _:  # a map of texts as JSON
                return put("CAST(to_json({}) AS VARCHAR)", value)

    def _time_of(self, value: Fragment) -> Fragment:
        return self._times.in_time(put("TRY_CAST(floor({}) AS BIGINT)", value))

    def _json_time(self, value: Fragment) -> Fragment:
        words = put("json_extract_string({}, '$')", value)
        number_ = self._converted(words, FieldType.TEXT, FieldType.NUMBER)
        return put("coalesce({}, {})", self._time_of(number_), self._times.read(words, None))

    def _computed(self, value: Computed, columns: dict[str, str]) -> Fragment:
        left, right = self.compile(value.left, columns), self.compile(value.right, columns)
        if value.type is FieldType.TIME:
            sign = value.operation.value
            return self._times.in_time(put(f"TRY_CAST(floor(CAST({{}} AS DOUBLE) {sign} {{}}) AS BIGINT)", left, right))
        match value.operation:
            case Operation.DIVIDED:
                return self._divided("/", left, right)
            case Operation.REMAINDER:
                return self._divided("%", left, right)
            case _ if value.left.type is FieldType.TIME:
                return put("CAST({} - {} AS DOUBLE)", left, right)
            case operation:
                return self._binder.finite(put(f"({{}} {operation.value} {{}})", left, right))

    def _divided(self, sign: str, left: Fragment, right: Fragment) -> Fragment:
        by = self._binder.bind
        return self._binder.finite(
            by(right, lambda one: put(f"CASE WHEN {{}} <> 0 THEN {{}} {sign} {{}} END", one, left, one))
        )

    # ---- conditions

    def _compared(self, relation: Relation, left: TypedExpression, right: Value, columns: dict[str, str]) -> Fragment:
        value = self.truth(left, columns)
        if relation is Relation.LIKE:
            return put("({} LIKE {} ESCAPE '\\')", value, text(like_pattern(str(right))))
        return put(_RELATIONS[relation], value, _constant(right, left.type))

    def _contained(self, left: Fragment, type_: FieldType, values: tuple[Value, ...]) -> Fragment:
        if len(values) <= _LONG_LIST:
            return put("({} IN ({}))", left, joined(", ", [_constant(one, type_) for one in values]))
        listed = Fragment(f"CAST(? AS {TYPES[type_]}[])", (list(values),))  # type: ignore[arg-type]
        return put("list_contains({}, {})", listed, left)

    def _present(self, value: Fragment, type_: FieldType, presence: Presence) -> Fragment:
        if presence in {Presence.IS_NULL, Presence.IS_NOT_NULL}:
            return put(f"({{}} IS {'NOT ' if presence is Presence.IS_NOT_NULL else ''}NULL)", value)
        match type_:
            case FieldType.TEXT:
                empty = put("(coalesce({}, '') = '')", value)
            case FieldType.JSON:
                empty = put("(coalesce({}, '\"\"') IN ('\"\"', '[]', '{{}}'))", value)
            case FieldType.TEXTS:
                empty = put("(coalesce(cardinality({}), 0) = 0)", value)
            case _:
                empty = put("({} IS NULL)", value)
        return put("(NOT {})", empty) if presence is Presence.IS_NOT_EMPTY else empty

    # ---- functions

    def _applied(self, call: Applied, arguments: list[Fragment]) -> Fragment:
        simple = _SIMPLE.get(call.function)
        if simple is not None:
            return put(simple, *arguments)
        if call.function in _NUMERIC:
            return self._binder.finite(put(_NUMERIC[call.function], *arguments))
        if call.function in _REPEATED:
            return put(f"{_REPEATED[call.function]}({{}})", joined(", ", arguments))
        if call.function in ADDING:
            return self._times.added(arguments[0], arguments[1], Unit(ADDING[call.function]))
        if call.function.startswith("get"):
            return self._times.part(arguments[0], call.function.removeprefix("get"))
        return self._steered(call, arguments)

    def _steered(self, call: Applied, arguments: list[Fragment]) -> Fragment:  # noqa: C901 - one case a function
        first = arguments[0]
        match call.function, call.settings:
            case "timeBucket", (Interval() as interval,):
                return self._times.bucket(first, interval)
            case "tsToStr", (str() as form,):
                return self._times.written(first, form)
            case "tsParse", (form,):
                return self._times.read(first, form if isinstance(form, str) else None)
            case "toTime", _:
                return self._time_of(first)
            case "round", (int() as digits,):
                return self._binder.finite(put(f"round({{}}, {digits})", first) if digits else put("round({})", first))
            case "extract", (str() as pattern, int() as group):
                return self._binder.bind(
                    first,
                    lambda one: put(
                        f"CASE WHEN regexp_matches({{}}, {{}}) THEN regexp_extract({{}}, {{}}, {group}) END",
                        *(one, text(pattern), one, text(pattern)),
                    ),
                )
            case "inSubnet", networks:
                return self._addresses.in_subnets(first, [str(one) for one in networks])
            case "isIp", _:
                return self._addresses.is_ip(first)
            case "isIpv4", _:
                return self._addresses.is_ip(first, six=False)
            case "isIpv6", _:
                return self._addresses.is_ip(first, four=False)
            case "substr", _:
                return self._substr(arguments)
            case "splitPart", _:
                return self._split_part(arguments)
            case _:
                raise AssertionError(f"{call.function} has no SQL")

    def _substr(self, arguments: list[Fragment]) -> Fragment:
        def cut(value: Fragment) -> Fragment:
            return self._binder.bind(
                value,
                lambda one: put(
                    f"CASE WHEN {{}} IS NOT NULL THEN CAST(trunc(greatest(0, least({{}}, {_FAR}))) AS BIGINT) END",
                    one,
                    one,
                ),
            )

        start = put("{} + 1", cut(arguments[1]))
        if len(arguments) == 2:
            return put("substring({}, {})", arguments[0], start)
        return put("substring({}, {}, {})", arguments[0], start, cut(arguments[2]))

    def _split_part(self, arguments: list[Fragment]) -> Fragment:
        whole_text, separator, index = arguments

        def part(one: Fragment) -> Fragment:
            parts = put("string_split({}, {})[TRY_CAST(trunc({}) AS BIGINT) + 1]", whole_text, separator, one)
            return put(
                f"CASE WHEN {{}} >= 0 AND {{}} < {_FAR} AND {{}} <> '' THEN {{}} END", one, one, separator, parts
            )

        return self._binder.bind(index, part)


def _constant(value: Value, type_: FieldType) -> Fragment:
    match value:
        case None:
            return put(f"CAST({{}} AS {TYPES[type_]})", NULL)
        case bool():
            return literal("true" if value else "false")
        case str():
            return text(value)
        case int():
            return whole(value)
        case _:
            return number(value)


_SIMPLE: dict[str, str] = {
    "abs": "abs({})",
    "ceil": "ceil({})",
    "floor": "floor({})",
    "sign": "CAST(sign({}) AS DOUBLE)",
    "lower": "lower({})",
    "upper": "upper({})",
    "trim": f"trim({{}}, '{_SPACE}')",
    "length": "CAST(length({}) AS DOUBLE)",
    "replace": "replace({}, {}, {})",
    "indexOf": "CAST(strpos({}, {}) - 1 AS DOUBLE)",
}
_NUMERIC: dict[str, str] = {
    "sqrt": "TRY(sqrt({}))",
    "exp": "exp({})",
    "ln": "TRY(ln({}))",
    "log10": "TRY(log10({}))",
    "log2": "TRY(log2({}))",
    "pow": "TRY(pow({}, {}))",
}
_REPEATED = {"least": "least", "greatest": "greatest", "concat": "concat", "coalesce": "coalesce"}
