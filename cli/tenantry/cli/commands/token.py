"""token create, list, revoke."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.completions import user_names
from tenantry.cli.confirmation import lock_out_option, take_away
from tenantry.cli.invocation import Invocation, Noun, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import token_service_pb2 as pb

_PAGE = 1_000


@click.group(cls=Noun)
def token() -> None:
    """Bearer tokens for programs, and the sessions that `tenantry login` makes."""


@token.command("create")
@click.argument("name", metavar="NAME")
@click.option(
    "--user", "whose", default="", metavar="USER", shell_complete=user_names, help="Whose; by default one's own."
)
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    metavar="RIGHT",
    help="Narrow it to this right, such as tenant.read; may be repeated.",
)
@click.option(
    "--owner",
    "owners",
    multiple=True,
    metavar="GUID",
    help="Narrow it to this Tenant, `main` or `shared`; may be repeated.",
)
@click.option("--lifetime", metavar="DURATION", help="1m to 366d.  [default: 90d]")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the token into this file (mode 0600) instead of printing it.",
)
@pass_invocation
def create_token(
    invocation: Invocation,
    name: str,
    whose: str,
    permissions: tuple[str, ...],
    owners: tuple[str, ...],
    lifetime: str | None,
    token_file: Path | None,
) -> None:
    """Make a token called NAME and print it, only now. It never allows more than its user may do."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import parse_length, to_duration
    from tenantry.process.files import write_private
    from tenantry.v1 import token_service_pb2

    scope = token_service_pb2.TokenScope(permissions=permissions, owners=owners)
    request = token_service_pb2.CreateTokenRequest(name=name, user=whose, scope=scope)
    if lifetime is not None:
        request.lifetime.CopyFrom(to_duration(parse_length(lifetime)))
    with invocation.connect() as master:
        made = master.call(master.tokens.CreateToken, request)
    if token_file is not None:
        write_private(token_file.absolute(), f"{made.secret}\n".encode())
        click.echo(f"token {made.token.id} is in {token_file}", err=True)
        plain = to_plain(made.token)
    else:
        click.echo(f"token {made.token.id}, shown only now:", err=True)
        plain = {**to_plain(made.token), "secret": made.secret}
    invocation.printer().document(plain, lambda: [] if token_file is not None else [made.secret])


@token.command("list")
@click.option(
    "--user", "whose", default="", metavar="USER", shell_complete=user_names, help="Whose; by default one's own."
)
@click.option("--all-users", is_flag=True, help="Everybody's.")
@click.option("--ended", is_flag=True, help="Also those that are revoked or over.")
@pass_invocation
def list_tokens(invocation: Invocation, whose: str, all_users: bool, ended: bool) -> None:
    """Tokens and sessions, oldest first. Never the tokens themselves."""
    from tenantry.cli.documents import enum_word, to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column
    from tenantry.v1 import token_service_pb2

    columns: list[Column[pb.Token]] = [
        Column("ID", lambda one: one.id),
        Column("KIND", lambda one: enum_word(token_service_pb2.TokenKind.DESCRIPTOR, one.kind).lower()),
        Column("USER", lambda one: one.user, flexible=True),
        Column("NAME", lambda one: one.name, flexible=True),
        Column("SCOPE", lambda one: scope_words(one.scope), flexible=True),
        Column(
            "LAST USED",
            lambda one: local_time(timestamp_ms(one.last_use_time)) if one.HasField("last_use_time") else "",
        ),
        Column("UNTIL", _end),
    ]
    wanted = token_service_pb2.ListTokensRequest(user=whose, all_users=all_users, show_ended=ended, page_size=_PAGE)
    with invocation.connect() as master:
        invocation.printer().listing(_all(master, wanted), columns, to_plain, "No tokens.")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@lock_out_option
@pass_invocation
def revoke_token(invocation: Invocation, token_id: str, lock_out: bool) -> None:
    """End a token or a session (`token list` shows the ids): the next call with it is refused."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.v1 import token_service_pb2

    with invocation.connect() as master:
        ended = take_away(
            lock_out,
            lambda meant: master.call(
                master.tokens.RevokeToken, token_service_pb2.RevokeTokenRequest(id=token_id, lock_out=meant)
            ),
        ).token
    invocation.printer().document(
        to_plain(ended),
        lambda: [f"Token {escape(ended.id)} ({escape(ended.name)}) of {escape(ended.user)} is revoked."],
    )


def scope_words(scope: pb.TokenScope) -> str:
    """What it is narrowed to, in words; narrowed to nothing is not the same as not narrowed."""
    rights = [*scope.permissions] or (["no right"] if scope.permissions_narrowed else [])
    owners = [*scope.owners] or (["nowhere"] if scope.owners_narrowed else [])
    return " ".join([*rights, *owners]) or "all"


def _end(one: pb.Token) -> str:
    from tenantry.cli.moments import local_time, timestamp_ms

    if one.HasField("revoke_time"):
        return "revoked"
    return local_time(timestamp_ms(one.expire_time)) if one.HasField("expire_time") else ""


def _all(master: Master, request: pb.ListTokensRequest) -> Iterator[pb.Token]:
    while True:
        page = master.call(master.tokens.ListTokens, request)
        yield from page.tokens
        request.page_token = page.next_page_token
        if not request.page_token:
            return
