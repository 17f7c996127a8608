"""Asking: before something is done that cannot be undone, and for what must not stand in the arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from tenantry.cli.troubles import InputInvalid

T = TypeVar("T")


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


def take_away(lock_out: bool, act: Callable[[bool], T]) -> T:
    """Do what takes a credential away; where it is the last way in for everybody who may do everything, ask first.

    ``act`` gets whether that is meant; ``lock_out``: scripts say so. Raises what it raises, LastCredential where nobody can be asked.
    """
    from tenantry.cli.escaping import escape
    from tenantry.protocol.failures import LastCredential

    try:
        return act(lock_out)
    except LastCredential as last:
        if not sys.stdin.isatty():
            raise
        confirm(False, [escape(str(last)), escape(last.hint)], "Take it away all the same?")
        return act(True)


lock_out_option = click.option(
    "--lock-out", is_flag=True, help="Also when no general administrator can sign in after it, without asking."
)


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
