"""``tenantry-master run``."""

import click

from tenantry.master.commands.options import configured
from tenantry.master.commands.outcomes import CommandRefused
from tenantry.master.config import MasterConfig
from tenantry.protocol.failures import EXIT_LOCAL


@click.command()
@click.option("--api-listen", metavar="ADDRESS:PORT", help="Where operators, tools and enrolling Tenants are answered.")
@click.option("--link-listen", metavar="ADDRESS:PORT", help="Where Tenants connect.")
@click.option("--console-listen", metavar="ADDRESS:PORT", help="Where people use the web console.")
@click.option("--monitoring-listen", metavar="ADDRESS:PORT", help="Where the Master's own metrics are served.")
@click.option(
    "--host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="A name or address in the server certificate; may be repeated.",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@configured
def run(config: MasterConfig) -> None:
    """Start the Master; Ctrl-C or SIGTERM stops it gracefully.

    Checks first what `config check` checks. What it listens on is written to run/endpoints.json in the data folder.
    """
    from tenantry.transport.settings import prepare_server_process

    prepare_server_process()
    from tenantry.master import bootstrap
    from tenantry.master.commands.checks import check_machine
    from tenantry.master.commands.findings import FAILED
    from tenantry.process.logs import configure_logging
    from tenantry.process.starting import settle

    failed = [finding for finding in check_machine(config) if finding.result == FAILED]
    if failed:
        lines = "\n".join(f"{finding.subject}: {finding.detail}" for finding in failed)
        raise CommandRefused(lines, failed[0].hint, failed[0].exit_code or EXIT_LOCAL)
    configure_logging(config.log_level)
    settle()
    bootstrap.run(config)
