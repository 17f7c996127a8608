"""Editing a text in $EDITOR, where somebody sits at a terminal."""

from __future__ import annotations

import sys

import click

from tenantry.cli.troubles import InputInvalid


def has_terminal() -> bool:
    """Whether an editor that opens now would be seen, and could be left."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def require_terminal(instead: str) -> None:
    """Raise InputInvalid where no editor can be used; ``instead`` says what to do then."""
    if not has_terminal():
        raise InputInvalid("there is no terminal for an editor; nothing was changed", instead)


def edit_text(text: str) -> str:
    """What is left of a YAML text in the editor. Raises InputInvalid when it is left without saving."""
    edited: str | None = click.edit(text, extension=".yaml", require_save=True)
    if edited is None:
        raise InputInvalid("the editor was left without saving; nothing was changed", "")
    return edited
