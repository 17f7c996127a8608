"""``tenantry-master token``: administrators' tokens of a Master that does not run, for instance when all are lost."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.master.commands.options import configured
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.config import MasterConfig
from tenantry.protocol.failures import EXIT_NOT_FOUND

if TYPE_CHECKING:
    from tenantry.master.domain.records import JsonValue, NewRecord
    from tenantry.master.operations.actors import Actor
    from tenantry.protocol.joining import Secret

TOKEN_FILE = click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the token into this file (mode 0600) instead of printing it.",
)


@click.group()
def token() -> None:
    """Make, list and revoke administrators' tokens. Only while the Master is stopped."""


@token.command()
@click.argument("name")
@TOKEN_FILE
@configured
def create(config: MasterConfig, name: str, token_file: Path | None) -> None:
    """Make a token of the user `administrator` called NAME, with all rights, and print it: shown once, stored hashed."""
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.domain.people import Token
    from tenantry.master.operations.administrators import ensure_administrator
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.protocol.names import check_name

    name = check_name(name, "name")
    secret = new_token()
    with stopped_master(config) as database:
        if token_file is not None:
            write_token(token_file, secret)
        now = wall_ms()
        with database.write() as transaction:
            user = ensure_administrator(transaction, local_actor(), now)
            transaction.tokens.insert(Token(secret.id, secret.hash, name, now, user_id=user.id))
            transaction.records.append([audited("token.create", now, token=secret.id, name=name)])
    show_token(secret, token_file)


@token.command("list")
@configured
def list_tokens(config: MasterConfig) -> None:
    """List the tokens: id, name, when made, when revoked or at an end. Never the tokens themselves."""
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.operations.clocks import wall_ms

    with stopped_master(config) as database, database.read() as transaction:
        known = transaction.tokens.all()
    now_ms = wall_ms()
    for entry in known:
        if entry.revoked_ms is not None:
            state = f"revoked {_moment(entry.revoked_ms)}"
        elif entry.expires_ms is not None and entry.expires_ms <= now_ms:
            state = f"ended {_moment(entry.expires_ms)}"
        else:
            state = "valid"
        click.echo(f"{entry.id}  {_moment(entry.created_ms)}  {state:32}  {entry.name}")


@token.command()
@click.argument("token_id", metavar="ID")
@configured
def revoke(config: MasterConfig, token_id: str) -> None:
    """Revoke the token with this ID (`token list` shows it): it opens nothing any more."""
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.operations.journal import if_unchanged

    with stopped_master(config) as database:
        now = wall_ms()
        with database.write() as transaction:
            known = transaction.tokens.by_id(token_id)
            if known is None:
                hint = "`tenantry-master token list` shows the ids."
                raise CommandRefused(f"there is no token {token_id[:40]!r}", hint, EXIT_NOT_FOUND)
            facts = {"token": token_id, "name": known.name, **if_unchanged(known.revoked_ms is None)}
            transaction.records.append([audited("token.revoke", now, **facts)])
            if known.revoked_ms is None:
                transaction.tokens.revoke(token_id, now)
    click.echo(f"revoked {token_id} ({known.name})", err=True)


def new_token() -> "Secret":
    """A new administrator's token."""
    import secrets

    from tenantry.protocol.joining import ID_BYTES, SECRET_BYTES, TOKEN_PREFIX, make_secret

    return make_secret(TOKEN_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES))


def write_token(path: Path, secret: "Secret") -> None:
    """Keep a token in a file of mode 0600. Raises OSError."""
    from tenantry.process.files import write_private

    write_private(path.absolute(), f"{secret.text}\n".encode("ascii"))


def show_token(secret: "Secret", token_file: Path | None) -> None:
    """Print a token that was not written into a file: alone on stdout, so that it can be piped."""
    if token_file is not None:
        click.echo(f"token {secret.id} is in {token_file}", err=True)
        return
    click.echo("the administrator's token, shown only now:", err=True)
    click.echo(secret.text)


def audited(action: str, now: int, **facts: "JsonValue") -> "NewRecord":
    """The audit record of something done on this machine, not over the API."""
    from tenantry.master.operations.journal import audit

    return audit(local_actor(), action, now, None, None, **facts)


def local_actor() -> "Actor":
    """Who works on this machine, not over the API."""
    from tenantry.master.operations.actors import Actor

    return Actor("operator", f"local:{_user()}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        import os

        return str(os.geteuid())


def _moment(milliseconds: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
