"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

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
