"""``tenantry-master ca``: what needs the authorities' files and a stopped Master."""

from pathlib import Path

import click

from tenantry.master.commands.options import configured
from tenantry.master.config import MasterConfig


@click.group()
def ca() -> None:
    """Work on the certificate authority. Only while the Master is stopped."""


@ca.command("renew-intermediate")
@click.option(
    "--root-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The root's private key, where it is kept offline [default: the one in the data folder].",
)
@configured
def renew_intermediate(config: MasterConfig, root_key: Path | None) -> None:
    """Replace the intermediate of the issuing authority by one with a new key and full lifetime.

    Tenants notice nothing: their pin is the root's, and certificates that were issued before stay valid.
    """
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.commands.tokens import audited
    from tenantry.master.operations.authorities import standings
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.pki.authority import AuthorityFolder

    with stopped_master(config) as database:
        now = wall_ms()
        with database.read() as transaction:
            issuing = standings(transaction).issuing
        renewed = AuthorityFolder(config.pki_dir).renew_intermediate(issuing, config.trust_domain, now, root_key)
        with database.write() as transaction:
            transaction.authorities.set_intermediate_end(issuing, renewed.intermediate_not_after)
            transaction.records.append([audited("authority.renew_intermediate", now, authority=issuing)])
    end = renewed.intermediate.not_valid_after_utc.date().isoformat()
    click.echo(f"authority {issuing} issues until {end}", err=True)
