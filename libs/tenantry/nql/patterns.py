"""Regular expressions of RE2: linear in time and bounded in memory, the same engine and bounds as DuckDB's."""

from __future__ import annotations

from typing import Protocol, cast

import re2


class Found(Protocol):
    """Where a pattern was found."""

    def group(self, number: int) -> str | None:
        """What a group found."""
        ...


class CompiledPattern(Protocol):
    """What ``re2`` compiles."""

    groups: int

    def search(self, text: str) -> Found | None:
        """The first place where it is found."""
        ...

    def fullmatch(self, text: str) -> Found | None:
        """The whole text."""
        ...


def read_pattern(text: str, *, ignore_case: bool = False) -> CompiledPattern:
    """A compiled regular expression. Raises ValueError with what is wrong."""
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        return cast("CompiledPattern", re2.compile(text, options))
    except re2.error as problem:
        detail = problem.args[0] if problem.args else ""
        raise ValueError(detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)) from None


def wildcard_pattern(wildcards: str) -> CompiledPattern:
    """``*`` and ``?`` as a regular expression of a whole text; a backslash takes their meaning from them."""
    result = "(?s)"
    index = 0
    while index < len(wildcards):
        one = wildcards[index]
        if one == "\\" and wildcards[index + 1 : index + 2] in {"*", "?", "\\"}:
            index += 1
            result += re2.escape(wildcards[index])
        else:
            result += {"*": ".*", "?": "."}.get(one) or re2.escape(one)
        index += 1
    return read_pattern(result)
