"""rule export, import, copy: rules as a file, and copies of them at another owner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.choices import Decorated, yes_option
from tenantry.cli.commands.rule import owner_option
from tenantry.cli.completions import rule_names, tenant_references
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid, LocalFileUnusable

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import rule_service_pb2 as pb

_THEIR_OWN: Final = (
    "id",
    "owner",
    "tenant_name",
    "instance_name",
    "builtin",
    "etag",
    "create_time",
    "update_time",
    "status",
)
"""What a copy does not take over."""


def rules_argument(command: Decorated) -> Decorated:
    """The argument RULE..., and the option that says whose they are."""
    argument = click.argument("references", metavar="RULE...", nargs=-1, required=True, shell_complete=rule_names)
    return argument(owner_option(command))


enable_option = click.option("--enable", is_flag=True, help="The copies judge at once; without this they rest.")


@click.command("export", cls=Verb)
@rules_argument
@click.option("-f", "--file", "target", type=click.Path(path_type=Path), help="Write there, not to stdout.")
@pass_invocation
def export_rules(invocation: Invocation, references: tuple[str, ...], owner: str, target: Path | None) -> None:
    """Write rules as a file that `rule create`, `rule edit` and `rule import` read: YAML, or JSON with --output json.

    The file does not say whose the rules are: whoever reads it in does.
    """
    from tenantry.cli.rule_forms import write_forms
    from tenantry.cli.rule_references import find_rule

    with invocation.connect() as master:
        found = [find_rule(master, reference, owner) for reference in references]
    text = write_forms(found, as_json=invocation.output == "json")
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text)
    except OSError as error:
        raise LocalFileUnusable(f"{target} cannot be written: {error.strerror}", "Choose another place.") from None
    click.echo(f"Wrote {target}.", err=True)


@click.command("import", cls=Verb)
@click.argument("source", metavar="FILE", type=click.File())
@click.option(
    "--owner",
    required=True,
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose the copies are: a Tenant, `main` or `shared`.",
)
@enable_option
@yes_option
@pass_invocation
def import_rules(invocation: Invocation, source: IO[str], owner: str, enable: bool, confirmed: bool) -> None:
    """Keep the rules of a file (- is stdin) as new ones of an owner, with new ids. They rest until they are enabled."""
    from tenantry.cli.rule_forms import from_forms

    rules = from_forms(source.read())
    with invocation.connect() as master:
        _create(invocation, master, rules, owner, enable=enable, confirmed=confirmed)


@click.command("copy", cls=Verb)
@rules_argument
@click.option(
    "--to",
    "target",
    required=True,
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose the copies are: a Tenant, `main` or `shared`.",
)
@click.option("--name", metavar="TEXT", help="Another name for the copy, of one rule.")
@enable_option
@yes_option
@pass_invocation
def copy_rules(invocation: Invocation, /, references: tuple[str, ...], owner: str, target: str, **typed: Any) -> None:
    """Keep copies of rules at another owner, with new ids. Nothing binds the two afterwards; the copies rest until enabled."""
    from tenantry.cli.rule_references import find_rule

    name = typed["name"]
    if name is not None and len(references) != 1:
        raise InputInvalid("one name was given for several rules", "Copy them one by one, or leave --name out.")
    with invocation.connect() as master:
        rules = [find_rule(master, reference, owner) for reference in references]
        for rule in rules:
            rule.name = name or rule.name
        _create(invocation, master, rules, target, enable=typed["enable"], confirmed=typed["confirmed"])


def _create(
    invocation: Invocation, master: Master, rules: Sequence[pb.Rule], owner: str, *, enable: bool, confirmed: bool
) -> None:
    """Say what is about to be created where, ask, and do it; what was created before a refusal stays, and is told."""
    from tenantry.cli.confirmation import confirm
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.output import Column
    from tenantry.cli.owners import describe_owner, owner_text
    from tenantry.v1 import rule_service_pb2

    where, said = describe_owner(master, owner)
    about = [escape(f"These become rules of {said}:"), *(escape(f"  {rule.name}") for rule in rules)]
    confirm(confirmed, about, "Create them?")
    made: list[pb.Rule] = []
    try:
        for rule in rules:
            for name in _THEIR_OWN:
                rule.ClearField(name)
            rule.owner, rule.active = where, enable
            made.append(master.call(master.rules.CreateRule, rule_service_pb2.CreateRuleRequest(rule=rule)).rule)
    except Exception:
        if made:
            click.echo(f"{len(made)} of {len(rules)} were created before this.", err=True)
        raise
    columns: list[Column[pb.Rule]] = [
        Column("NAME", lambda one: one.name, flexible=True),
        Column("OWNER", owner_text, flexible=True),
        Column("STATE", lambda one: "active" if one.active else "inactive"),
        Column("ID", lambda one: one.id),
    ]
    invocation.printer().listing(made, columns, to_plain, "")
