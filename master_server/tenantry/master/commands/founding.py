"""``tenantry-master init``: a new Master, or the completion of one whose making was cut short."""

import datetime as dt
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.master.commands.licences import (
    EVALUATION_DAYS,
    EVALUATION_TENANTS,
    license_at_birth,
    read_issuer_key,
)
from tenantry.master.commands.markers import INITIALISING
from tenantry.master.commands.options import configured
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.commands.tokens import TOKEN_FILE, audited, local_actor, new_token, show_token, write_token
from tenantry.master.config import CONFIG_NAME, MasterConfig, split_listen
from tenantry.process.failpoints import failpoint
from tenantry.process.files import private_directory, sync_directory, write_private
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL

if TYPE_CHECKING:
    from tenantry.licensing.signing import IssuerKey
    from tenantry.master.pki.authority import Authority, AuthorityFolder
    from tenantry.master.sql.database import Database
    from tenantry.protocol.joining import Secret
    from tenantry.protocol.licences import Licence

_FIRST_TOKEN = "first administrator"  # noqa: S105 - a name


@click.command()
@click.option(
    "--host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="The name or address by which Tenants reach this Master; may be repeated, join strings carry the first one "
    "[default: this machine's name].",
)
@click.option(
    "--trust-domain",
    metavar="DOMAIN",
    help="The domain of all identities [default: tenantry.internal]. It cannot be changed later.",
)
@click.option(
    "--dsn-file",
    metavar="FILE",
    help="A file of mode 0600 with the URL of a PostgreSQL database [default: SQLite in the data folder].",
)
@TOKEN_FILE
@click.option(
    "--evaluation",
    is_flag=True,
    help=f"Begin with a licence for {EVALUATION_DAYS} days and {EVALUATION_TENANTS} Tenants, which this Master issues itself.",
)
@click.option(
    "--issuer-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Begin with a licence that is issued at once with this issuer's key (`tenantry license issuer create`). The key is "
    "read and not kept; its issuer is trusted.",
)
@click.option(
    "--issuer-passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="A file of mode 0600 with the passphrase of the issuer's key.",
)
@click.option(
    "--license-tenants", type=click.IntRange(1), default=1_000, metavar="N", help="With --issuer-key [default: 1000]."
)
@click.option(
    "--license-days", type=click.IntRange(1), default=365, metavar="N", help="With --issuer-key [default: 365]."
)
@configured
def init(
    config: MasterConfig,
    token_file: Path | None,
    evaluation: bool,
    issuer_key: Path | None,
    issuer_passphrase_file: Path | None,
    license_tenants: int,
    license_days: int,
) -> None:
    """Make a new Master: its data folder, certificate authority, store, and the first administrator's token.

    What an interrupted `init` left behind is completed by the next one.
    """
    from tenantry.master.pki.authority import AuthorityFolder
    from tenantry.master.sql.database import Database

    if evaluation and issuer_key is not None:
        raise click.UsageError("--evaluation and --issuer-key exclude each other")
    key = None if issuer_key is None else read_issuer_key(issuer_key, issuer_passphrase_file)
    birth: tuple[IssuerKey | None, int, int] | None = None
    if evaluation:
        birth = (None, EVALUATION_TENANTS, EVALUATION_DAYS)
    elif key is not None:
        birth = (key, license_tenants, license_days)
    private_directory(config.data_dir)
    marker = config.data_dir / INITIALISING
    folder = AuthorityFolder(config.pki_dir)
    interrupted = marker.exists()
    if not interrupted:
        _refuse_leftovers(config, folder)
    with Database.open(config.dsn) as database:
        _refuse_foreign_store(folder, database, interrupted=interrupted)
        if not interrupted:
            write_private(marker, b"")
        failpoint("init.after_marker")
        authority = _authority(folder, config)
        failpoint("init.after_authority")
        _write_configuration(config)
        failpoint("init.after_configuration")
        secret = new_token()
        if token_file is not None:
            write_token(token_file, secret)
        licence = _found(database, authority, config, secret, birth)
        failpoint("init.after_commit")
    click.echo(f"the Master is ready in {config.data_dir}" + (" (completed)" if interrupted else ""), err=True)
    show_token(secret, token_file)
    failpoint("init.after_token")
    marker.unlink()
    sync_directory(config.data_dir)
    _print_steps(config, authority, licence)


def _refuse_leftovers(config: MasterConfig, folder: "AuthorityFolder") -> None:
    """An authority that no unfinished `init` made belongs to a Master that works, or once did."""
    if folder.ids():
        raise CommandRefused(
            f"there is a Master in {config.data_dir} already",
            "Start it with `tenantry-master run`. If its token was lost, `tenantry-master token create NAME` makes "
            "another one; if its database was lost, restore a backup into an empty folder.",
            EXIT_CONFLICT,
        )


def _refuse_foreign_store(folder: "AuthorityFolder", database: "Database", *, interrupted: bool) -> None:
    """A store that has a Master already, unless an interrupted `init` in this folder made that Master."""
    from tenantry.master.commands.stores import INSTANCE_ID

    with database.read() as transaction:
        taken = transaction.settings.get(INSTANCE_ID) is not None
        known = {stored.id for stored in transaction.authorities.load()}
    own = interrupted and known <= set(folder.ids())
    if taken and not own:
        raise CommandRefused(
            "the database belongs to another Master already",
            "Name an empty database with --dsn-file, or restore a backup.",
            EXIT_CONFLICT,
        )


def _authority(folder: "AuthorityFolder", config: MasterConfig) -> "Authority":
    """The authority that an interrupted `init` made already, or a new one."""
    from tenantry.master.operations.clocks import wall_ms

    ids = folder.ids()
    if len(ids) > 1:
        raise CommandRefused(
            f"there are {len(ids)} authorities in {config.pki_dir}", "Use an empty data folder.", EXIT_LOCAL
        )
    return folder.load(ids[0]) if ids else folder.create(config.trust_domain, wall_ms())


def _write_configuration(config: MasterConfig) -> None:
    """Keep what was chosen; a file that says all of it already stays as the operator wrote it."""
    path = config.data_dir / CONFIG_NAME
    # What dsn_file says stays there.
    said = set(config.origins) - {"data_dir"} - ({"dsn"} if config.dsn_file is not None else set())
    if path.exists() and all(config.origins[key] == str(path) for key in said):
        return
    # The names are kept even where they are defaults: the machine's name may change, join strings may not.
    text = config.as_toml(said | {"public_hosts", "trust_domain"})
    write_private(path, f"# `tenantry-master config show` prints all settings that there are.\n{text}".encode())


def _found(
    database: "Database",
    authority: "Authority",
    config: MasterConfig,
    secret: "Secret",
    birth: "tuple[IssuerKey | None, int, int] | None",
) -> "Licence | None":
    """Write the first rows, all or none; the licence in force. What an interrupted `init` wrote stays, but its token, which nobody
    may have seen.
    """
    from tenantry.licensing.issuers import TrustFile
    from tenantry.licensing.machine import master_fingerprint
    from tenantry.master.commands.stores import INSTANCE_ID, TRUST_DOMAIN
    from tenantry.master.domain.authorities import AuthorityState
    from tenantry.master.domain.people import Token
    from tenantry.master.operations.administrators import ensure_administrator
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.operations.licensing import FINGERPRINT
    from tenantry.master.operations.trusting import note_trust, trust_of
    from tenantry.master.sql.authorities import StoredAuthority

    now = wall_ms()
    with database.write() as transaction:
        if transaction.settings.get(INSTANCE_ID) is None:
            instance_id = str(uuid.uuid4())
            transaction.settings.set(INSTANCE_ID, instance_id)
            transaction.settings.set(FINGERPRINT, master_fingerprint(instance_id, authority.fingerprint))
            transaction.settings.set(TRUST_DOMAIN, config.trust_domain)
            transaction.authorities.insert(
                StoredAuthority(
                    authority.id,
                    AuthorityState.ISSUING,
                    authority.fingerprint,
                    now,
                    authority.root_not_after,
                    authority.intermediate_not_after,
                )
            )
        for unseen in transaction.tokens.all():
            transaction.tokens.revoke(unseen.id, now)
        transaction.records.append([audited("master.init", now, authority=authority.id, token=secret.id)])
        administrator = ensure_administrator(transaction, local_actor(), now)
        transaction.tokens.insert(Token(secret.id, secret.hash, _FIRST_TOKEN, now, user_id=administrator.id))
        licence = None if birth is None else license_at_birth(config, transaction, *birth, now)
        note_trust(transaction, local_actor(), trust_of(TrustFile(config.issuers_file).read(), config.openid), now)
        return licence


def _print_steps(config: MasterConfig, authority: "Authority", licence: "Licence | None") -> None:
    key = config.pki_dir / authority.id / "root.key"
    needed = authority.intermediate.not_valid_after_utc.date().isoformat()
    port = config.public_api_port or split_listen(config.api_listen)[1] or "PORT"
    host = config.public_hosts[0]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    data = f" --data {config.data_dir}" if "data_dir" in config.origins else ""
    if licence is None:
        licensed = "There is no licence yet: Tenants can be registered when one is installed."
        ask = f"""  tenantry-master license request{data} FILE     (`tenantry license issue` makes a licence from it)
  tenantry-master license trust{data} ISSUER-FILE
  tenantry-master license install{data} LICENCE-FILE
"""
    else:
        purpose = "an evaluation licence" if licence.evaluation else "a licence"
        end = dt.datetime.fromtimestamp(licence.not_after_ms // 1000, dt.UTC).date().isoformat()
        licensed, ask = f"It has {purpose} for {licence.tenants} Tenants, until {end}.", ""
    click.echo(
        f"""
CA fingerprint: {authority.fingerprint}
It is part of every join string; Tenants accept no Master with another one.
{licensed}

Next:
{ask}  tenantry-master run{data}
  tenantry login --address {address} --ca-fingerprint {authority.fingerprint}
  tenantry tenant create NAME INSTANCE         (prints the join string for a Tenant)

Take the root key offline: move {key}
to a medium in a safe, and keep a copy. The running Master does not need it. It is needed before {needed}:
  tenantry-master ca renew-intermediate{data} --root-key FILE""",
        err=True,
    )
