"""Text from elsewhere, made harmless for a terminal."""

from __future__ import annotations

import unicodedata

from tenantry.protocol.names import first_forbidden


def escape(text: str, *, lines: bool = False) -> str:
    r"""`text` with every control, format and unassigned character written as ``\x1b``; line breaks stay when `lines`."""
    if text.isprintable():
        return text
    allowed = "\n" if lines else ""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if first_forbidden(character, allowed) else character
        for character in text
    )


def cells(text: str) -> int:
    """How many columns of a terminal an escaped text takes (East Asian wide characters take two)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shorten(text: str, width: int) -> str:
    """An escaped text cut to `width` columns, with an ellipsis where something is missing."""
    if cells(text) <= width:
        return text
    kept = ""
    used = 0
    for character in text:
        used += cells(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…"
