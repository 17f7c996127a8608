"""completion, help: about the program itself."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tenantry.cli.diagnosis import EXIT_CODES, reasons_of
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid

PROGRAM = "tenantry"
TOPICS = ("exit-codes", "output", "environment")
_OUTPUT = """\
--output table   for people; control characters of what others sent are escaped; times are local
--output json    one object; a list is one array with an element a line; what has no end (watch, tail, forward): one object a line
--output yaml    the same as documents; a list is one sequence; what has no end: one document each

Field names are those of the contract (protos/tenantry/v1), in snake_case. Every field is there: what is absent is null;
of a oneof only the member that is set appears. Times are RFC 3339 in UTC, durations like "5s", enum values their names
without the name of the type ("ACTIVE"). With json, an error is one line of JSON on stderr: {"error": {"reason": ...}}."""
_ENVIRONMENT = """\
TENANTRY_PROFILE       the profile to use
TENANTRY_PROFILES      the file with the profiles (default: tenantry/profiles.yaml in XDG_CONFIG_HOME or ~/.config)
TENANTRY_ADDRESS       HOST:PORT of a Master, instead of a profile; needs the next two
TENANTRY_TOKEN_FILE    a private file, or a pipe, with the token
TENANTRY_CA_FILE       the Master's root certificate (PEM)
TENANTRY_TRUST_DOMAIN  its trust domain (default: tenantry.internal)
TENANTRY_DEBUG         set: show where this program failed
NO_COLOR               set: no colours

--profile wins over TENANTRY_ADDRESS, that over TENANTRY_PROFILE, that over the profile in use."""


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what a shell needs to complete commands and names.

    bash: eval "$(tenantry completion bash)"; zsh likewise; fish: tenantry completion fish | source
    """
    found = get_completion_class(shell)
    if found is None:
        raise InputInvalid(f"there is no completion for {shell}", "")
    program = found(context.find_root().command, {}, PROGRAM, "_TENANTRY_COMPLETE")
    click.echo(program.source())


@click.command("help", cls=Verb)
@click.argument("topic", type=click.Choice(TOPICS), default="exit-codes")
@pass_invocation
def topics(invocation: Invocation, topic: str) -> None:
    """Explain exit codes, forms of output, or the environment."""
    if topic == "exit-codes":
        rows = [{"code": code, "meaning": meaning, "reasons": reasons_of(code)} for code, meaning in EXIT_CODES]
        invocation.printer().document(rows, lambda: (_exit_code_line(*row) for row in EXIT_CODES))
    else:
        click.echo(_OUTPUT if topic == "output" else _ENVIRONMENT)


def _exit_code_line(code: int, meaning: str) -> str:
    reasons = reasons_of(code)
    return f"{code:>4}  {meaning}" + (f"\n      {', '.join(reasons)}" if reasons else "")
