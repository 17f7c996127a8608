"""The program ``tenantry-master``: its commands, and how each end becomes an exit code."""

import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from tenantry.master.commands.auditing import audit
from tenantry.master.commands.configuring import config
from tenantry.master.commands.founding import init
from tenantry.master.commands.issuers import ca
from tenantry.master.commands.licences import license_
from tenantry.master.commands.outcomes import explain
from tenantry.master.commands.running import run
from tenantry.master.commands.saving import backup, restore
from tenantry.master.commands.tokens import token
from tenantry.master.commands.users import user
from tenantry.process.redaction import redact_text
from tenantry.protocol.failures import EXIT_BUG

EXIT_INTERRUPTED: Final = 130


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"tenantry-master {version('tenantry')}")
        context.exit()


_EXIT_CODES: Final = """\b
Exit codes: 0 done, 1 a bug, 2 wrong usage or configuration, 3 not found,
4 conflict (in use, exists already), 7 the database cannot be reached,
9 files or clock of this machine, 130 interrupted."""


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def program() -> None:
    """The Master: supervises Tenants, takes their data, and answers operators."""


for _command in (init, run, config, backup, restore, token, user, ca, license_, audit):
    program.add_command(_command)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; trouble is explained on stderr."""
    try:
        outcome = program.main(args=arguments, prog_name="tenantry-master", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last one to see it
        return _report(error)
    return outcome if isinstance(outcome, int) else 0


def _report(error: Exception) -> int:
    explanation = explain(error)
    if explanation is None:
        text = redact_text("".join(traceback.format_exception(error)))
        click.echo(f"{text}\nThis is a bug of tenantry-master; please report it with the lines above.", err=True)
        return EXIT_BUG
    for line in explanation.message.splitlines():
        click.echo(f"{click.style('error:', fg='red')} {line}", err=True)
    click.echo(f"{click.style('hint:', fg='cyan')} {explanation.hint}", err=True)
    return explanation.exit_code


def main() -> None:
    """The entry point of the installed program."""
    sys.exit(execute())
