"""How a query is refused: where, why, what could have stood there, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tenantry.nql.tree import Position
from tenantry.protocol.failures import QueryInvalid

_SHOWN_BEFORE = 80
_SHOWN_AFTER = 40


def refusal(text: str, at: Position, problem: str, expected: str) -> QueryInvalid:
    """The failure that points at a place of the text. ``expected`` is a sentence of its own."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    begin = max(0, at.column - 1 - _SHOWN_BEFORE)
    shown = line[begin : at.column + _SHOWN_AFTER].replace("\t", " ")
    return QueryInvalid(
        problem=problem,
        line=at.line,
        column=at.column,
        expected=expected,
        source_line=shown,
        caret=" " * (at.column - 1 - begin) + "^",
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean …?`` for the nearest of the known words, else nothing."""
    words = {one.lower(): one for one in known}
    nearest = difflib.get_close_matches(word[:80].lower(), words, n=1, cutoff=0.6)
    return f" Did you mean {words[nearest[0]]}?" if nearest else ""


def listed(words: Iterable[str], most: int = 12) -> str:
    """Words for a sentence: ``a, b or c``; only the first ``most``."""
    every = list(dict.fromkeys(words))
    if len(every) > most:
        return f"{', '.join(every[:most])} or others"
    return " or ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))
