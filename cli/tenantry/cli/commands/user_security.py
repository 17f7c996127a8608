"""user set-password, and user second-factor enrol, confirm, remove."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.user import tell
from tenantry.cli.completions import user_names
from tenantry.cli.confirmation import ask_secret
from tenantry.cli.invocation import Invocation, Noun, Verb, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.connection import Master

_FILE = click.Path(path_type=Path)
_AUTHENTICATOR_SHOWS = "Code that the authenticator shows"


@click.command("set-password", cls=Verb)
@click.argument("name", metavar="[USER]", default="", shell_complete=user_names)
@click.option(
    "--password-file", type=_FILE, help="File with the new password; else it is asked for, or read from stdin."
)
@click.option("--old-password-file", type=_FILE, help="File with the present one, where it is one's own.")
@pass_invocation
def set_password(invocation: Invocation, name: str, password_file: Path | None, old_password_file: Path | None) -> None:
    """Set one's own password, or USER's. All other sessions of the user end."""
    from tenantry.v1 import user_service_pb2

    with invocation.connect() as master:
        own = master.call(master.users.GetUser, user_service_pb2.GetUserRequest()).user
        mine = name.strip().lower() in ("", own.name)
        old = ask_secret("Present password", old_password_file) if mine and own.has_password else ""
        new = ask_secret("New password", password_file, twice=True)
        request = user_service_pb2.SetPasswordRequest(name=name, password=new, old_password=old)
        changed = master.call(master.users.SetPassword, request).user
    tell(invocation, changed, "has a new password")


@click.group("second-factor", cls=Noun)
def second_factor() -> None:
    """Codes of an authenticator that signing in needs beside the password (TOTP)."""


@second_factor.command("enrol")
@click.option("--password-file", type=_FILE, help="File with one's password; else it is asked for, or read from stdin.")
@pass_invocation
def enrol(invocation: Invocation, password_file: Path | None) -> None:
    """Begin a second factor for oneself: shows the secret for the authenticator, only now.

    On a terminal it goes on with the first code, which puts it in force; else `second-factor confirm` does.
    """
    from tenantry.cli.escaping import escape
    from tenantry.v1 import user_service_pb2

    printer = invocation.printer()
    with invocation.connect() as master:
        own = master.call(master.users.GetUser, user_service_pb2.GetUserRequest()).user
        password = ask_secret("Password", password_file) if own.has_password else ""
        request = user_service_pb2.EnrolSecondFactorRequest(password=password)
        enrolled = master.call(master.users.EnrolSecondFactor, request)
        plain = {"secret": enrolled.secret, "otpauth_uri": enrolled.otpauth_uri}
        grouped = " ".join(enrolled.secret[place : place + 4] for place in range(0, len(enrolled.secret), 4))
        lines = [
            "Give this to your authenticator; it is shown only now.",
            f"  Secret  {escape(grouped)}",
            f"  URI     {escape(enrolled.otpauth_uri)}",
        ]
        printer.document(plain, lambda: lines)
        if printer.for_people and sys.stdin.isatty():
            _confirm(invocation, master, ask_secret(_AUTHENTICATOR_SHOWS, None, hidden=False))
        else:
            click.echo("`tenantry user second-factor confirm` puts it in force.", err=True)


@second_factor.command("confirm")
@pass_invocation
def confirm(invocation: Invocation) -> None:
    """Put the second factor in force by its first code (asked for, or read from stdin); shows the recovery codes, only now."""
    code = ask_secret(_AUTHENTICATOR_SHOWS, None, hidden=False)
    with invocation.connect() as master:
        _confirm(invocation, master, code)


@second_factor.command("remove")
@click.argument("name", metavar="[USER]", default="", shell_complete=user_names)
@pass_invocation
def remove(invocation: Invocation, name: str) -> None:
    """Take one's own second factor away, by a code or a recovery code; or USER's, who has lost it."""
    from tenantry.v1 import user_service_pb2

    with invocation.connect() as master:
        own = master.call(master.users.GetUser, user_service_pb2.GetUserRequest()).user
        mine = name.strip().lower() in ("", own.name)
        code = ask_secret(_AUTHENTICATOR_SHOWS, None, hidden=False) if mine and own.second_factor else ""
        request = user_service_pb2.RemoveSecondFactorRequest(name=name, code=code)
        changed = master.call(master.users.RemoveSecondFactor, request).user
    tell(invocation, changed, "signs in without a second factor")


def _confirm(invocation: Invocation, master: Master, code: str) -> None:
    from tenantry.v1 import user_service_pb2

    request = user_service_pb2.ConfirmSecondFactorRequest(code=code)
    codes = list(master.call(master.users.ConfirmSecondFactor, request).recovery_codes)
    invocation.printer().document({"recovery_codes": codes}, lambda: _recovery_lines(codes))


def _recovery_lines(codes: Iterable[str]) -> list[str]:
    return [
        "The second factor is in force.",
        "Each of these codes stands in for it once. Keep them in a safe place; they are shown only now.",
        *(f"  {code}" for code in codes),
    ]
