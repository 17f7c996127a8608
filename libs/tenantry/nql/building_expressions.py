"""From lark's parse tree to expressions: what a grammar cannot say is checked here, with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from lark import Token, v_args
from lark.visitors import Transformer_NonRecursive

from tenantry.nql.functions import AGGREGATES, FUNCTIONS, short_percentile
from tenantry.nql.patterns import read_pattern
from tenantry.nql.refusing import refusal, suggestion
from tenantry.nql.times import TimeUnreadable, read_time
from tenantry.nql.tree import (
    And,
    Arithmetic,
    Call,
    Choice,
    Comparison,
    Constant,
    Expression,
    Field,
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
    Relation,
)
from tenantry.nql.zones import Zone

MAX_DEPTH = 32
MAX_ITEMS = 256  # fields, keys, aggregates or assignments of one command
MAX_CONSTANTS = 10_000  # behind `in`
MAX_NAME = 256
MAX_PATTERN = 1_000
MAX_ROWS = 10_000_000  # behind `limit`, `tail`

_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


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
class ExpressionBuilder(Transformer_NonRecursive[Token, object]):
    """Builds the expressions of one text; used once."""

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
            self._refuse(place_of(token), f"a name of {len(value)} characters", f"At most {MAX_NAME} characters.")
        return Token.new_borrow_pos("NAME", value, token)

    def field(self, token: Token) -> Field:
        """A field."""
        return Field(str(self.name(token)), at=place_of(token))

    def integer(self, token: Token) -> int:
        """A whole number that counts rows."""
        if not token.isdigit() or len(token) > 9 or int(token) > MAX_ROWS:
            self._refuse(
                place_of(token), f"{_short(token)} is no number of rows", f"Expected a whole number up to {MAX_ROWS}."
            )
        return int(token)

    def constant(self, token: Token) -> Constant:
        """A constant of any type."""
        at = place_of(token)
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
            self._refuse(place_of(token), "a character that no text can hold", "Expected text without it.")
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
        return self._time(self._string(token) if token.type == "STRING" else str(token), place_of(token))

    def sign_number(self, *tokens: Token) -> int:
        """Epoch milliseconds of the source."""
        return self._time("".join(tokens), place_of(tokens[0]))

    # ---- expressions

    def call(self, token: Token, *arguments: Expression) -> Expression:
        """A function or an aggregate; which of them may stand where is decided by what it stands in."""
        at = place_of(token)
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
            return Constant(-operand.value, at=place_of(token))
        return self._nested(Negative(operand, at=place_of(token)), operand)

    def arithmetic(self, left: Expression, token: Token, right: Expression) -> Expression:
        """Two operands."""
        return self._nested(Arithmetic(Operation(str(token)), left, right, at=left.at), left, right)

    def choice(self, token: Token, condition: Expression, then: Expression, otherwise: Expression) -> Expression:
        """``if``."""
        return self._nested(Choice(condition, then, otherwise, at=place_of(token)), condition, then, otherwise)

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
            self._refuse(place_of(regex), f"a regular expression of {len(body)} characters", f"At most {MAX_PATTERN}.")
        try:
            read_pattern(body, ignore_case=ignore_case)
        except ValueError as problem:
            self._refuse(
                place_of(regex), f"the regular expression is wrong: {str(problem)[:200]}", "Expected the syntax of RE2."
            )
        pattern = Pattern(body, ignore_case, at=place_of(regex))
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
        return self._nested(Not(operand, at=place_of(token)), operand)

    def conjunction(self, *parts: Expression | Token) -> Expression:
        """``and``."""
        operands = tuple(one for one in parts if not isinstance(one, Token))
        return self._nested(And(operands, at=operands[0].at), *operands)

    def disjunction(self, *parts: Expression | Token) -> Expression:
        """``or``."""
        operands = tuple(one for one in parts if not isinstance(one, Token))
        return self._nested(Or(operands, at=operands[0].at), *operands)


def place_of(token: Token) -> Position:
    """Where a token begins."""
    return Position(token.line or 1, token.column or 1)


def _short(token: str) -> str:
    text = str(token)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
