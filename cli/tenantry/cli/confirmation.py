"""Asking: before something is done that cannot be undone, and for what must not stand in the arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tenantry.cli.troubles import InputInvalid


def confirm(confirmed: bool, about: Sequence[str], question: str) -> None:
    """Show what it is `about` (escaped lines) and ask, unless `confirmed` already.

    Raises InputInvalid where nobody can answer, and when the answer is no.
    """
    if confirmed:
        return
    for line in about:
        click.echo(line, err=True)
    if not sys.stdin.isatty():
        raise InputInvalid("nobody is there to confirm; nothing was changed", "Add --yes when you are sure.")
    if not click.confirm(question, err=True):
        raise InputInvalid("not confirmed; nothing was changed", "")


def ask_secret(what: str, file: Path | None, *, hidden: bool = True, twice: bool = False) -> str:
    """A secret from a private file or a pipe, from a line of stdin, or from a prompt. Raises LocalFileUnusable, InputInvalid.

    ``twice``: a prompt asks again, since nobody sees what is typed.
    """
    if file is not None and str(file) != "-":
        from tenantry.cli.profiles import read_secret

        text = read_secret(file, "secret")
        # One line, as editors leave it; white space in it counts.
        return text.removesuffix("\n").removesuffix("\r")
    if sys.stdin.isatty():
        typed: str = click.prompt(what, hide_input=hidden, err=True, confirmation_prompt=twice)
        return typed
    line = sys.stdin.readline()
    if not line:
        raise InputInvalid(f"nobody is there to give this: {what}", "Write it to stdin, a line each, or name a file.")
    return line.removesuffix("\n").removesuffix("\r")
