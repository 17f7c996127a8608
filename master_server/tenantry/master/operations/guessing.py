"""How soon a password is guessed: not by its characters, but by what guessing programs try first."""

import re
from typing import Final

from tenantry.protocol.failures import FieldInvalid

FEWEST_GUESSES: Final = 10**8
"""A password that is found sooner is none. Ten attempts a second, which nobody gets here, need four months for so many."""
_PART: Final = 32
"""What is looked at, from both ends: the work grows with the square of the length."""
_BETWEEN: Final = re.compile(r"\W+")
_OURS: Final = ("tenantry", "tenant", "master")


def check_guesses(password: str, *words: str) -> str:
    """The password itself, unless it is guessed too soon: in tens of milliseconds, so not for the event loop.

    The 30,000 commonest of known breaches, words and names, and what people make of them: doubled, with a year behind them, with
    signs for letters, along the keyboard. ``words`` are those of the user, who is guessed as well. Raises FieldInvalid, which never
    repeats the password.
    """
    # 14 MB, which a Master whose people come from a provider never needs.
    from zxcvbn import zxcvbn  # noqa: PLC0415

    own = [part for word in (*words, *_OURS) for part in _parts(word) if part]
    if all(zxcvbn(part, own)["guesses"] < FEWEST_GUESSES for part in {password[:_PART], password[-_PART:]}):
        raise FieldInvalid(
            field="password",
            problem="is among those that are tried first",
            expected="one that is not made of a common word, a name, a date or a row of the keyboard",
        )
    return password


def _parts(word: str) -> tuple[str, ...]:
    """A text, the words in it, and these written together."""
    parts = _BETWEEN.split(word)
    return (word, *parts, "".join(parts))
