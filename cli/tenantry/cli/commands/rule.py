"""rule list, show, create, edit, enable, disable, delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import click

from tenantry.cli.commands.choices import Decorated, yes_option
from tenantry.cli.completions import rule_names, tenant_references
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.privacy_words import HELP as PRIVACY_HELP
from tenantry.cli.privacy_words import parse_privacy, write_privacy

if TYPE_CHECKING:
    from tenantry.cli.output import Cell
    from tenantry.v1 import rule_service_pb2 as pb

owner_option = click.option(
    "--owner",
    default="",
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose: a Tenant, `main` or `shared`. Needed where several have a rule of the name.",
)


def rule_argument(command: Decorated) -> Decorated:
    """The argument RULE, and the option that says whose it is."""
    return click.argument("reference", metavar="RULE", shell_complete=rule_names)(owner_option(command))


etag_option = click.option(
    "--etag", default="", metavar="ETAG", help="Refuse when the rule's etag is another one by now."
)


@click.group(cls=Noun)
def rule() -> None:
    """Rules by which the Master judges metrics as they arrive. A rule is named by its name or its id.

    Each belongs to one OWNER for ever: those of `main` judge every Tenant, those of a Tenant that Tenant alone, those of `shared`
    nothing: they are there to be copied.
    """


@rule.command("list")
@click.option("--text", default="", metavar="TEXT", help="Part of the name.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="With this tag; several: with all of them.")
@click.option("--active/--inactive", default=None, help="Only those that judge, or only those that rest.")
@click.option(
    "--owner", default="", metavar="OWNER", shell_complete=tenant_references, help="Only those of this owner."
)
@pass_invocation
def list_rules(invocation: Invocation, text: str, tags: tuple[str, ...], active: bool | None, owner: str) -> None:
    """The rules that you see, by name, with how many series each finds now."""
    from tenantry.cli import rule_forms, rule_references
    from tenantry.cli.documents import to_plain
    from tenantry.cli.output import Column
    from tenantry.cli.owners import find_owner, owner_text
    from tenantry.v1 import rule_service_pb2

    columns: list[Column[pb.Rule]] = [
        Column("NAME", lambda one: one.name, flexible=True),
        Column("OWNER", owner_text, flexible=True),
        Column("STATE", _state),
        Column("SCORE", lambda one: str(one.score), right=True),
        Column("METRIC", lambda one: one.metric or one.stream, flexible=True),
        Column("THRESHOLDS", lambda one: _joined(rule_forms.thresholds_of(one)), flexible=True),
        Column("FINDINGS", lambda one: str(one.status.findings), right=True),
        Column("TENANTS", lambda one: str(one.status.tenants), right=True),
    ]
    with invocation.connect() as master:
        where = find_owner(master, owner) if owner else ""
        wanted = rule_service_pb2.RuleFilter(text=text, tags=tags, active=active, owner=where)
        invocation.printer().listing(rule_references.list_rules(master, wanted), columns, to_plain, "No rules match.")


@rule.command("show")
@rule_argument
@pass_invocation
def show_rule(invocation: Invocation, reference: str, owner: str) -> None:
    """Everything of one rule, and what it finds now."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.rule_references import find_rule

    printer = invocation.printer()
    with invocation.connect() as master:
        found = find_rule(master, reference, owner)
    printer.document(to_plain(found), lambda: printer.details(_details(found)))


@rule.command("create")
@click.option("-f", "--file", "source", type=click.File(), required=True, help="YAML or JSON; - reads from stdin.")
@click.option(
    "--owner",
    required=True,
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose it is: a Tenant, `main` or `shared`. Cannot be changed later.",
)
@click.option("--privacy", metavar="WORDS", help=PRIVACY_HELP)
@click.option("--with-pair", is_flag=True, help="Propose the rule that moves Tenants back, and keep both.")
@yes_option
@pass_invocation
def create_rule(
    invocation: Invocation, source: IO[str], owner: str, privacy: str | None, with_pair: bool, confirmed: bool
) -> None:
    """Keep a new rule from a file. It judges from the next sample on if the file says `active: true`.

    With --with-pair the way back is proposed, shown, and kept together with the rule when you agree.
    """
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import find_owner
    from tenantry.cli.rule_forms import from_form, write_forms
    from tenantry.v1 import rule_service_pb2

    wanted = from_form(source.read())
    if privacy is not None:
        wanted.privacy.CopyFrom(parse_privacy(privacy))
    with invocation.connect() as master:
        wanted.owner = find_owner(master, owner)
        request = rule_service_pb2.CreateRuleRequest(rule=wanted)
        if with_pair:
            proposal = rule_service_pb2.ProposePairRequest(rule=wanted)
            request.pair.CopyFrom(master.call(master.rules.ProposePair, proposal).rule)
            form = write_forms([request.pair], as_json=False)
            confirm(confirmed, ["The way back would be:", "", *map(escape, form.splitlines())], "Keep both rules?")
        answer = master.call(master.rules.CreateRule, request)
    _tell(invocation, answer.rule, "Created")
    if answer.HasField("pair"):
        _tell(invocation, answer.pair, "Created")


@rule.command("edit")
@rule_argument
@click.option("-f", "--file", "source", type=click.File(), help="YAML or JSON; without it $EDITOR opens the rule.")
@click.option("--privacy", metavar="WORDS", help=PRIVACY_HELP)
@etag_option
@pass_invocation
def edit_rule(
    invocation: Invocation, reference: str, owner: str, source: IO[str] | None, privacy: str | None, etag: str
) -> None:
    """Make a rule as a file says, or as it is left in the editor. Refused when somebody else was faster.

    With --privacy and without a file only that is changed.
    """
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.editing import edit_text, require_terminal
    from tenantry.cli.rule_forms import changed_paths, from_form, write_forms
    from tenantry.cli.rule_references import find_rule
    from tenantry.v1 import rule_service_pb2

    in_editor = source is None and privacy is None
    if in_editor:
        require_terminal("Give a file with -f; `tenantry rule export NAME` writes one, and `-f -` reads stdin.")
    with invocation.connect() as master:
        found = find_rule(master, reference, owner)
        text = write_forms([found], as_json=False) if source is None else source.read()
        if in_editor:
            text = edit_text(text)
        wanted = from_form(text)
        wanted.score = wanted.score or found.score
        if privacy is not None:
            wanted.privacy.CopyFrom(parse_privacy(privacy))
        paths = changed_paths(found, wanted)
        if paths:
            wanted.id, wanted.etag = found.id, etag or found.etag
            request = rule_service_pb2.UpdateRuleRequest(rule=wanted, update_mask=FieldMask(paths=paths))
            found = master.call(master.rules.UpdateRule, request).rule
    _tell(invocation, found, f"Changed {', '.join(paths)} of" if paths else "Nothing to change at")


@rule.command("enable")
@rule_argument
@etag_option
@pass_invocation
def enable_rule(invocation: Invocation, reference: str, owner: str, etag: str) -> None:
    """Let a rule judge from the next sample on."""
    from tenantry.cli.rule_references import find_rule
    from tenantry.v1 import rule_service_pb2

    with invocation.connect() as master:
        found = find_rule(master, reference, owner)
        request = rule_service_pb2.EnableRuleRequest(id=found.id, etag=etag)
        changed = master.call(master.rules.EnableRule, request).rule
    _tell(invocation, changed, "Enabled")


@rule.command("disable")
@rule_argument
@etag_option
@pass_invocation
def disable_rule(invocation: Invocation, reference: str, owner: str, etag: str) -> None:
    """Let a rule rest. What it had found is over: its alerts end, and Tenants that only it kept in Alert go back."""
    from tenantry.cli.rule_references import find_rule
    from tenantry.v1 import rule_service_pb2

    with invocation.connect() as master:
        found = find_rule(master, reference, owner)
        request = rule_service_pb2.DisableRuleRequest(id=found.id, etag=etag)
        changed = master.call(master.rules.DisableRule, request).rule
    _tell(invocation, changed, "Disabled")


@rule.command("delete")
@rule_argument
@etag_option
@yes_option
@pass_invocation
def delete_rule(invocation: Invocation, reference: str, owner: str, etag: str, confirmed: bool) -> None:
    """Delete a rule; what it had found is over. Rules that come with the program can only be disabled."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import owner_text
    from tenantry.cli.rule_references import find_rule
    from tenantry.v1 import rule_service_pb2

    with invocation.connect() as master:
        found = find_rule(master, reference, owner)
        name = escape(f"{found.name} of {owner_text(found)}")
        confirm(
            confirmed, [f"This deletes the rule {name}, which finds {found.status.findings} series now."], "Delete it?"
        )
        # The etag: what is deleted is what was shown.
        request = rule_service_pb2.DeleteRuleRequest(id=found.id, etag=etag or found.etag)
        master.call(master.rules.DeleteRule, request)
    invocation.printer().document(to_plain(found), lambda: [f"Deleted the rule {name}."])


def _tell(invocation: Invocation, found: pb.Rule, happened: str) -> None:
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import owner_text

    state = "judges" if found.active else "rests"
    name = escape(f"{found.name} of {owner_text(found)}")
    invocation.printer().document(to_plain(found), lambda: [f"{happened} the rule {name}; it {state}."])


def _state(found: pb.Rule) -> Cell:
    from tenantry.cli.output import Cell

    if found.status.failing_reason:
        return Cell("failing", "red")
    return Cell("active", "green") if found.active else Cell("inactive", "bright_black")


def _details(found: pb.Rule) -> Iterator[tuple[str, Cell | str]]:
    from tenantry.cli.moments import duration_ms, local_time, timestamp_ms
    from tenantry.cli.owners import owner_text
    from tenantry.cli.rule_forms import actions_of, thresholds_of, told_by
    from tenantry.process.durations import format_milliseconds

    yield "Name", found.name
    yield "ID", found.id
    yield "Owner", owner_text(found)
    yield "Privacy", write_privacy(found.privacy)
    yield "State", _state(found)
    yield "Failing", found.status.failing_reason
    if found.status.HasField("failing_since"):
        yield "Failing since", local_time(timestamp_ms(found.status.failing_since))
    yield "Finds now", f"{found.status.findings} series of {found.status.tenants} Tenants"
    yield "Description", found.description
    yield "Tags", ", ".join(found.tags)
    yield "Score", str(found.score)
    yield "MITRE", " ".join(filter(None, (found.mitre_tactic, found.mitre_technique)))
    yield "Stream", "" if found.stream == "metricsMaster" else found.stream
    yield "Metric", found.metric
    for label in found.labels:
        yield f"Label {label.name}", f"{'none of' if label.negated else 'one of'} {', '.join(label.values)}"
    yield "Thresholds", _joined(thresholds_of(found))
    if found.HasField("window"):
        yield from _window_details(found.window)
    yield "Throttle", format_milliseconds(duration_ms(found.throttle)) if duration_ms(found.throttle) else ""
    yield "Margin", f"{found.margin:g}" if found.margin else ""
    for name, duration in (("For", found.for_duration), ("Clear for", found.clear_for_duration)):
        yield name, format_milliseconds(duration_ms(duration)) if duration_ms(duration) else ""
    for kind, levels in actions_of(found).items():
        yield kind.replace("_", " ").capitalize(), ", ".join(levels)
    for name, levels in told_by(found).items():
        yield "Notify", f"{name}: {', '.join(levels)}"
    yield "Comes with", f"the program, as {found.builtin}" if found.builtin else ""
    yield "Etag", found.etag
    yield "Changed", local_time(timestamp_ms(found.update_time))


def _window_details(window: pb.RuleWindow) -> Iterator[tuple[str, str]]:
    from tenantry.cli.moments import duration_ms
    from tenantry.cli.rule_forms import value_text
    from tenantry.process.durations import format_milliseconds

    length, interval, lateness = (
        format_milliseconds(duration_ms(one)) for one in (window.length, window.interval, window.lateness)
    )
    yield "Window", f"{length} every {interval}, records up to {lateness} out of order"
    yield "Filter", window.filter
    yield "Values", ", ".join(f"{value.name}={value_text(value)}" for value in window.values)
    yield "Judged", window.judged or window.values[0].name
    yield "Categories", ", ".join(window.categories)
    yield "Output filter", window.output_filter


def _joined(thresholds: dict[str, str]) -> str:
    return ", ".join(f"{level} {text}" for level, text in thresholds.items())
