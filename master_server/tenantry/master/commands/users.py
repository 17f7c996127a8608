"""``tenantry-master user``: access that was lost, given back on the machine of a Master that does not run."""

import sys
from pathlib import Path

import click

from tenantry.master.commands.options import configured
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.commands.tokens import audited, local_actor
from tenantry.master.config import MasterConfig
from tenantry.protocol.failures import EXIT_NOT_FOUND


@click.group()
def user() -> None:
    """List users and give them back their access. Only while the Master is stopped."""


@user.command("list")
@configured
def list_users(config: MasterConfig) -> None:
    """List the users: name, whether enabled, by what they sign in."""
    from tenantry.master.commands.stores import stopped_master

    with stopped_master(config) as database, database.read() as transaction:
        found = [one for number in transaction.users.ids() if (one := transaction.users.by_id(number)) is not None]
    for one in found:
        state = "enabled" if one.disabled_ms is None else "disabled"
        means = [word for word, there in (("password", one.password), ("code", one.second_factor)) if there]
        click.echo(f"{one.name}  {state}  {' + '.join(means) or '-'}")


@user.command("reset-password")
@click.argument("name", metavar="USER")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file of mode 0600 with the new password; else it is asked for, or read from stdin.",
)
@click.option("--remove-second-factor", is_flag=True, help="Also sign in without a code from now on.")
@configured
def reset_password(config: MasterConfig, name: str, password_file: Path | None, remove_second_factor: bool) -> None:
    """Give USER a new password, enable the user, and end all sessions.

    For `administrator`, the user is made where there is none and may do everything again.
    """
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.domain.passwords import check_password
    from tenantry.master.domain.people import TokenKind, fold_user_name
    from tenantry.master.operations.administrators import FIRST_ADMINISTRATOR, ensure_administrator
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.operations.guessing import check_guesses
    from tenantry.master.operations.hashing import make_hasher
    from tenantry.master.sql.transaction import Transaction

    folded = fold_user_name(name)

    def give(transaction: Transaction, hashed: str, now: int) -> None:
        from dataclasses import replace

        if folded == FIRST_ADMINISTRATOR:
            ensure_administrator(transaction, local_actor(), now)
        known = transaction.users.by_name(folded)
        if known is None:
            hint = "`tenantry-master user list` shows those that there are."
            raise CommandRefused(f"there is no user {name[:80]!r}", hint, EXIT_NOT_FOUND)
        changed = replace(known, password=hashed, disabled_ms=None)
        if remove_second_factor:
            changed = replace(changed, totp=None, totp_confirmed_ms=None, totp_used_step=None, recovery_codes=())
        transaction.tokens.revoke_of_user(known.id, now, TokenKind.SESSION)
        transaction.users.save(changed)
        transaction.records.append(
            [audited("user.reset_password", now, user=folded, second_factor_removed=remove_second_factor)]
        )

    with stopped_master(config) as database:
        hashed = make_hasher().hash(check_guesses(check_password(_ask(password_file), folded), folded))
        with database.write() as transaction:
            give(transaction, hashed, wall_ms())
    click.echo(f"{folded} has a new password", err=True)


def _ask(file: Path | None) -> str:
    """The new password; never from the command line."""
    from tenantry.process.files import read_private

    if file is not None:
        return read_private(file).decode().removesuffix("\n").removesuffix("\r")
    if sys.stdin.isatty():
        typed: str = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
