"""user list, show, create, edit, disable, enable, delete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.choices import reason_option, yes_option
from tenantry.cli.completions import user_names
from tenantry.cli.confirmation import ask_secret, confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Cell
    from tenantry.v1 import user_service_pb2 as pb

_PAGE = 1_000
user_argument = click.argument("name", metavar="USER", shell_complete=user_names)
etag_option = click.option(
    "--etag", default="", metavar="ETAG", help="Refuse when the user's etag is another one by now."
)


@click.group(cls=Noun)
def user() -> None:
    """People and machines that sign in. What they may do is said by `tenantry role`."""


@user.command("list")
@pass_invocation
def list_users(invocation: Invocation) -> None:
    """All users by name."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column

    columns: list[Column[pb.User]] = [
        Column("NAME", lambda one: one.name, flexible=True),
        Column("STATE", _state),
        Column("SIGNS IN BY", _means, flexible=True),
        Column(
            "LAST SIGN-IN",
            lambda one: local_time(timestamp_ms(one.last_sign_in_time)) if one.HasField("last_sign_in_time") else "",
        ),
        Column("DISPLAY NAME", lambda one: one.display_name, flexible=True),
        Column("EMAIL", lambda one: one.email, flexible=True),
    ]
    with invocation.connect() as master:
        invocation.printer().listing(_all(master), columns, to_plain, "No users.")


@user.command("show")
@click.argument("name", metavar="[USER]", default="", shell_complete=user_names)
@pass_invocation
def show_user(invocation: Invocation, name: str) -> None:
    """Everything of one user; by default of oneself."""
    from tenantry.cli.documents import to_plain
    from tenantry.v1 import user_service_pb2

    printer = invocation.printer()
    with invocation.connect() as master:
        found = master.call(master.users.GetUser, user_service_pb2.GetUserRequest(name=name)).user
    printer.document(to_plain(found), lambda: printer.details(_details(found)))


@user.command("create")
@click.argument("name", metavar="USER")
@click.option("--display-name", default="", metavar="TEXT")
@click.option("--email", default="", metavar="MAIL")
@click.option("--machine", is_flag=True, help="A machine: no password; tokens, or client certificates.")
@click.option("--no-password", is_flag=True, help="A person who signs in by a provider or by tokens.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="File with the first password; else it is asked for, or read from stdin.",
)
@pass_invocation
def create_user(
    invocation: Invocation,
    name: str,
    display_name: str,
    email: str,
    machine: bool,
    no_password: bool,
    password_file: Path | None,
) -> None:
    """Make a user, who may do nothing until `tenantry role grant` says so."""
    from tenantry.v1 import user_service_pb2

    if password_file is not None and (machine or no_password):
        raise InputInvalid("a password is given for a user without one", "Leave --password-file out.")
    password = "" if machine or no_password else ask_secret(f"Password of {name}", password_file, twice=True)
    wanted = user_service_pb2.User(name=name, display_name=display_name, email=email, machine=machine)
    with invocation.connect() as master:
        request = user_service_pb2.CreateUserRequest(user=wanted, password=password)
        made = master.call(master.users.CreateUser, request).user
    tell(invocation, made, "is made")


@user.command("edit")
@user_argument
@click.option("--display-name", metavar="TEXT")
@click.option("--email", metavar="MAIL", help="An empty text takes it away.")
@etag_option
@pass_invocation
def edit_user(invocation: Invocation, name: str, display_name: str | None, email: str | None, etag: str) -> None:
    """Change what is said about a user."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.v1 import user_service_pb2

    values = {"display_name": display_name, "email": email}
    given = sorted(field for field, value in values.items() if value is not None)
    if not given:
        raise InputInvalid("nothing to change was named", "See `tenantry user edit --help`.")
    wanted = user_service_pb2.User(name=name, etag=etag, display_name=display_name or "", email=email or "")
    with invocation.connect() as master:
        request = user_service_pb2.UpdateUserRequest(user=wanted, update_mask=FieldMask(paths=given))
        changed = master.call(master.users.UpdateUser, request).user
    tell(invocation, changed, "is changed")


@user.command("disable")
@user_argument
@reason_option
@etag_option
@pass_invocation
def disable_user(invocation: Invocation, name: str, reason: str, etag: str) -> None:
    """End a user's sessions, and refuse everything of the user from the next call on."""
    from tenantry.v1 import user_service_pb2

    with invocation.connect() as master:
        request = user_service_pb2.DisableUserRequest(name=name, reason=reason, etag=etag)
        changed = master.call(master.users.DisableUser, request).user
    tell(invocation, changed, "is disabled")


@user.command("enable")
@user_argument
@reason_option
@etag_option
@pass_invocation
def enable_user(invocation: Invocation, name: str, reason: str, etag: str) -> None:
    """Let a disabled user in again; tokens and certificates work again, sessions do not."""
    from tenantry.v1 import user_service_pb2

    with invocation.connect() as master:
        request = user_service_pb2.EnableUserRequest(name=name, reason=reason, etag=etag)
        changed = master.call(master.users.EnableUser, request).user
    tell(invocation, changed, "is enabled")


@user.command("delete")
@user_argument
@reason_option
@etag_option
@yes_option
@pass_invocation
def delete_user(invocation: Invocation, name: str, reason: str, etag: str, confirmed: bool) -> None:
    """Erase a user with tokens, certificates, roles and memberships. What is written about the user stays."""
    from tenantry.cli.escaping import escape
    from tenantry.v1 import user_service_pb2

    confirm(confirmed, [f"The user {escape(name)} is erased, with all tokens, certificates and roles."], "Go on?")
    with invocation.connect() as master:
        master.call(master.users.DeleteUser, user_service_pb2.DeleteUserRequest(name=name, reason=reason, etag=etag))
    invocation.printer().document({"deleted": name}, lambda: [f"User {escape(name)} is deleted."])


def tell(invocation: Invocation, one: pb.User, happened: str) -> None:
    """Say what became of a user."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape

    invocation.printer().document(to_plain(one), lambda: [f"User {escape(one.name)} {happened}."])


def _all(master: Master) -> Iterator[pb.User]:
    from tenantry.v1 import user_service_pb2

    token = ""
    while True:
        request = user_service_pb2.ListUsersRequest(page_size=_PAGE, page_token=token)
        page = master.call(master.users.ListUsers, request)
        yield from page.users
        token = page.next_page_token
        if not token:
            return


def _state(one: pb.User) -> Cell:
    from tenantry.cli.output import Cell

    return Cell("disabled", "red") if one.HasField("disable_time") else Cell("enabled", "green")


def _means(one: pb.User) -> str:
    if one.machine:
        return "token or certificate"
    means = [
        word
        for word, there in (
            ("password + code" if one.second_factor else "password", one.has_password),
            ("provider", bool(one.issuer)),
        )
        if there
    ]
    return ", ".join(means) or "token"


def _details(one: pb.User) -> Iterator[tuple[str, Cell | str]]:
    from tenantry.cli.moments import local_time, timestamp_ms

    yield "Name", one.name
    yield "Display name", one.display_name
    yield "Email", one.email
    yield "State", _state(one)
    yield "Signs in by", _means(one)
    if one.second_factor:
        yield "Recovery codes left", str(one.recovery_codes_left)
    yield "Provider", one.issuer
    yield "Made", local_time(timestamp_ms(one.create_time))
    if one.HasField("last_sign_in_time"):
        yield "Last sign-in", local_time(timestamp_ms(one.last_sign_in_time))
    if one.HasField("disable_time"):
        yield "Disabled", local_time(timestamp_ms(one.disable_time))
    yield "Etag", one.etag
