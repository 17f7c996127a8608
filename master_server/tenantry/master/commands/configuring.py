"""``tenantry-master config``."""

import click

from tenantry.master.commands.options import configured
from tenantry.master.config import MasterConfig

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.group()
def config() -> None:
    """Show and check the configuration."""


@config.command()
@configured
def show(config: MasterConfig) -> None:
    """Print the effective configuration as TOML, each value that is not a default with its origin, without passwords."""
    click.echo(config.describe(), nl=False)


@config.command()
@configured
def check(config: MasterConfig) -> int:
    """Do everything that `run` does before it listens: files, permissions, clock, certificates, ports, store.

    Changes nothing. Ends with 0 when a Master could start, or is running.
    """
    from tenantry.master.commands.checks import check_all
    from tenantry.master.commands.findings import FAILED

    findings = check_all(config)
    for finding in findings:
        click.echo(
            f"{click.style(f'{finding.result:8}', fg=_COLOURS[finding.result])} {finding.subject}: {finding.detail}"
        )
        if finding.hint:
            click.echo(f"{'':8} -> {finding.hint}")
    return next((finding.exit_code for finding in findings if finding.result == FAILED), 0)
