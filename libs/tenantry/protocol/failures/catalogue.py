"""What every failure has, the catalogue of all, and the exit codes of the command line."""

from __future__ import annotations

from typing import ClassVar

ERROR_DOMAIN = "tenantry.v1"

CATALOGUE: dict[str, type[Failure]] = {}

_LONGEST_FACT = 1_000


class Failure(Exception):
    """Something asked for cannot be done. Only subclasses are raised; each states what, why, and what to do."""

    reason: ClassVar[str]
    code: ClassVar[str]
    message: ClassVar[str]
    hint: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(self, **metadata: str | int) -> None:
        self.metadata: dict[str, str] = {name: _harmless(str(value)) for name, value in metadata.items()}
        super().__init__(self.describe())

    def __init_subclass__(cls) -> None:
        if cls.reason in CATALOGUE:
            raise TypeError(f"two failures share the reason {cls.reason}")
        CATALOGUE[cls.reason] = cls

    def describe(self) -> str:
        """The message with its facts filled in."""
        return self.message.format_map(_Known(self.metadata))

    def advise(self) -> str:
        """What the caller can do about it, with the facts filled in."""
        return self.hint.format_map(_Known(self.metadata))


def _harmless(fact: str) -> str:
    """A fact as it may be shown and sent: what is named may be a stranger's text, which is neither obeyed nor echoed at any length."""
    shown = fact if len(fact) <= _LONGEST_FACT else f"{fact[:_LONGEST_FACT]}…"
    return shown if shown.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in shown)


class _Known(dict[str, str]):
    """Metadata in which a missing fact shows as ``?``: an older or newer peer may send other facts than we expect."""

    def __missing__(self, key: str) -> str:
        return "?"


# Exit codes of the command line, documented in the operator's guide.
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_CONFLICT = 4
EXIT_WRONG_STATE = 5
EXIT_DENIED = 6
EXIT_UNREACHABLE = 7
EXIT_LIMIT = 8
EXIT_LOCAL = 9
EXIT_UNPROVEN = 10
