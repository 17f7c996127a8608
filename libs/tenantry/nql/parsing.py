"""From text to tree. A text that is no query raises QueryInvalid and nothing else; no nesting makes it recurse.

The parser is lark's LALR(1) with its own stack, and the tree is built bottom-up without recursion; how deep expressions may
nest is bounded here, so that everything behind the parser may recurse over a tree.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import NoReturn, cast

from lark import Lark, Token
from lark.exceptions import UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from tenantry.nql.building import Builder
from tenantry.nql.expectations import COMMAND_WORDS, KEYWORDS, expected_words
from tenantry.nql.refusing import listed, refusal, suggestion
from tenantry.nql.tree import NOWHERE, Command, Expression, Position, Query, Source
from tenantry.nql.zones import Zone, zone_named
from tenantry.protocol.failures import QueryInvalid

MAX_TEXT = 16_384
_SPAN = r"(\d+(ms|s|m|h|d|w|M|y))+"


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    return Lark(
        files("tenantry.nql").joinpath("grammar.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="contextual",
        start=["query", "pipeline", "condition"],
        maybe_placeholders=False,
        keep_all_tokens=False,
    )


def parse(text: str, *, now_ms: int, time_zone: str = "UTC") -> Query:
    """The tree of a whole query. ``now_ms``: what ``@now`` and ``now()`` mean; ``time_zone``: an IANA name.

    Raises QueryInvalid; FieldInvalid for an unknown time zone.
    """
    source, commands = cast("tuple[Source, tuple[Command, ...]]", _read(text, "query", now_ms, zone_named(time_zone)))
    return Query(source=source, commands=commands, now_ms=now_ms, time_zone=time_zone, text=text)


def parse_commands(text: str, *, now_ms: int, time_zone: str = "UTC") -> tuple[Command, ...]:
    """The commands of a query without its source. Raises as ``parse`` does."""
    return cast("tuple[Command, ...]", _read(text, "pipeline", now_ms, zone_named(time_zone)))


def parse_condition(text: str, *, now_ms: int, time_zone: str = "UTC") -> Expression:
    """One condition, such as a rule's filter. Raises as ``parse`` does."""
    return cast("Expression", _read(text, "condition", now_ms, zone_named(time_zone)))


def _read(text: str, start: str, now_ms: int, zone: Zone) -> object:
    if len(text) > MAX_TEXT:
        raise refusal("", NOWHERE, f"the query has {len(text)} characters", f"At most {MAX_TEXT} characters are read.")
    strange = next((index for index, one in enumerate(text) if one == "\0" or "\ud800" <= one <= "\udfff"), None)
    if strange is not None:
        raise refusal(text, _place(text, strange), "a character that no text can hold", "Expected a query without it.")
    builder = Builder(text=text, now_ms=now_ms, zone=zone)
    try:
        tree = _grammar().parse(text, start=start)
        return builder.transform(tree)
    except UnexpectedInput as problem:
        _explain(text, problem)
    except VisitError as problem:
        if isinstance(problem.orig_exc, QueryInvalid):
            raise problem.orig_exc from None
        raise


def _place(text: str, index: int) -> Position:
    before = text[:index]
    return Position(before.count("\n") + 1, index - before.rfind("\n"))


def _explain(text: str, problem: UnexpectedInput) -> NoReturn:
    """Says where reading stopped, what stood there and what could have."""
    if isinstance(problem, UnexpectedEOF):
        raise refusal(text, _place(text, len(text)), "the query ends too early", "Expected more.") from None
    token: Token | None = None
    if isinstance(problem, UnexpectedToken):
        token = problem.token
        terminals = set(problem.accepts)
        history = problem.token_history
        index = len(text) if token.type == "$END" else token.start_pos or 0
    else:
        terminals = set(getattr(problem, "allowed", None) or ())
        history = getattr(problem, "token_history", None)
        index = getattr(problem, "pos_in_stream", None) or 0
    before = history[-1] if history else None
    expected = expected_words(terminals)
    sentence = f"Expected {listed(expected)}." if expected else ""
    at = _place(text, index)
    if token is not None and token.type == "$END":
        raise refusal(text, at, "the query ends too early", sentence or "Expected more.") from None
    word = str(token) if token is not None else _word_at(text, index)
    if token is None and word in "\"'`":
        raise refusal(
            text, at, f"what begins with {word} does not end in this line", f"Expected another {word}."
        ) from None
    hint = suggestion(word, (KEYWORDS[one] for one in terminals if one in KEYWORDS))
    if re.fullmatch(_SPAN, word[:40]) and ("MOMENT" in terminals or (before is not None and before.type == "MINUS")):
        hint = f" A time so long ago is written -{word[:40]}@now."
    if not hint and before is not None and before.type == "NAME" and _begins_command(text, before):
        meant = suggestion(str(before), COMMAND_WORDS)
        if meant:
            place = _place(text, before.start_pos or 0)
            raise refusal(text, place, f"{_shown(str(before))} is no command", f"Expected a command.{meant}") from None
    raise refusal(text, at, f"{_shown(word)} cannot stand here", f"{sentence}{hint}".strip()) from None


def _shown(word: str) -> str:
    return repr(word if len(word) <= 40 else f"{word[:40]}…")


def _word_at(text: str, index: int) -> str:
    end = index + 1
    if text[index : index + 1].isalnum():
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
    return text[index:end]


def _begins_command(text: str, token: Token) -> bool:
    before = text[: token.start_pos or 0].rstrip()
    return not before or before[-1] in "|("
