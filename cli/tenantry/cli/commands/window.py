"""window list, show, create, edit, delete, calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.alert import SEVERITIES
from tenantry.cli.commands.choices import Decorated, yes_option
from tenantry.cli.completions import rule_names, tenant_references, window_names
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import window_service_pb2 as pb

_DAY_MS: Final = 86_400_000
owner_option = click.option(
    "--owner",
    default="",
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose: a Tenant or `main`. Needed where several have a window of the name.",
)


def window_argument(command: Decorated) -> Decorated:
    """The argument WINDOW, and the option that says whose it is."""
    return click.argument("reference", metavar="WINDOW", shell_complete=window_names)(owner_option(command))


def window_options(command: Decorated) -> Decorated:
    """The options that say when a window is and what it mutes."""
    for option in reversed(
        (
            click.option("--cron", metavar="EXPRESSION", help="Begin again and again: minute hour day month weekday."),
            click.option(
                "--zone", metavar="ZONE", help="Time zone of --cron, for instance Europe/Berlin.  [default: UTC]"
            ),
            click.option("--for", "lasting", metavar="DURATION", help="How long it lasts, for instance 2h."),
            click.option("--start", metavar="TIME", help="Begin, of one that is once; with --cron: not before."),
            click.option("--end", metavar="TIME", help="End, of one that is once; with --cron: not after."),
            click.option(
                "--tenant",
                "tenants",
                multiple=True,
                metavar="TENANT",
                shell_complete=tenant_references,
                help="Only alerts about this Tenant; may be repeated.",
            ),
            click.option(
                "--rule", "rules", multiple=True, metavar="RULE", shell_complete=rule_names, help="Only this rule's."
            ),
            click.option("--severity", "severities", multiple=True, type=click.Choice(SEVERITIES), help="Only of it."),
            click.option("--description", metavar="TEXT", help="Why; who is to be asked."),
            click.option(
                "--active/--inactive", default=None, help="Whether it mutes when it comes.  [default: active]"
            ),
        )
    ):
        command = option(command)
    return command


@click.group(cls=Noun)
def window() -> None:
    """Maintenance windows: what is to be done about the alerts that they mute waits until they are over.

    One of `main` mutes alerts of every Tenant, one of a Tenant that Tenant's alone.
    """


@window.command("list")
@click.option("--text", default="", metavar="TEXT", help="Part of the name.")
@click.option("--active/--inactive", default=None, help="Only those that mute when they come, or only the others.")
@owner_option
@pass_invocation
def list_them(invocation: Invocation, text: str, active: bool | None, owner: str) -> None:
    """The windows that you see, by name."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.owners import find_owner
    from tenantry.cli.windows.references import list_windows
    from tenantry.cli.windows.view import window_columns
    from tenantry.v1 import window_service_pb2

    with invocation.connect() as master:
        where = find_owner(master, owner) if owner else ""
        wanted = window_service_pb2.WindowFilter(text=text, active=active, owner=where)
        invocation.printer().listing(list_windows(master, wanted), window_columns(), to_plain, "No windows match.")


@window.command("show")
@window_argument
@pass_invocation
def show_window(invocation: Invocation, reference: str, owner: str) -> None:
    """Everything of one window."""
    from tenantry.cli.windows.references import find_window

    with invocation.connect() as master:
        _print(invocation, master, find_window(master, reference, owner))


@window.command("create")
@click.argument("name", metavar="NAME")
@click.option(
    "--owner",
    required=True,
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose it is: a Tenant or `main`. Cannot be changed later.",
)
@window_options
@pass_invocation
def create_window(invocation: Invocation, /, name: str, owner: str, active: bool | None, **options: Any) -> None:
    """Keep a new window: once (--start now --for 2h), or again and again (--cron '0 2 * * sun' --for 4h --zone Europe/Berlin)."""
    from tenantry.cli.owners import find_owner
    from tenantry.v1 import window_service_pb2

    with invocation.connect() as master:
        wanted = window_service_pb2.Window(name=name, owner=find_owner(master, owner), active=active is not False)
        paths = _fill(master, wanted, options)
        if "once" not in paths and "recurrence" not in paths:
            raise InputInvalid("say when the window is", "Add --start and --for, or --cron and --for.")
        made = master.call(master.windows.CreateWindow, window_service_pb2.CreateWindowRequest(window=wanted)).window
        _print(invocation, master, made)


@window.command("edit")
@window_argument
@click.option("--name", metavar="NAME", help="Another name.")
@click.option(
    "--everything", is_flag=True, help="Mute all alerts that the owner allows: takes Tenants, rules, severities out."
)
@click.option("--etag", default="", metavar="ETAG", help="Refuse when the etag is another one by now.")
@window_options
@pass_invocation
def edit_window(
    invocation: Invocation,
    /,
    reference: str,
    owner: str,
    name: str | None,
    everything: bool,
    etag: str,
    active: bool | None,
    **options: Any,
) -> None:
    """Change what the options say. Tenants, rules and severities that are given take the place of those that are there."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.windows.references import find_window
    from tenantry.v1 import window_service_pb2

    with invocation.connect() as master:
        found = find_window(master, reference, owner)
        wanted = window_service_pb2.Window(id=found.id, etag=etag or found.etag, scope=found.scope)
        paths = _fill(master, wanted, options, found)
        if everything:
            wanted.scope.Clear()
            paths.append("scope")
        if name is not None:
            wanted.name = name
            paths.append("name")
        if active is not None:
            wanted.active = active
            paths.append("active")
        if not paths:
            raise InputInvalid("nothing is to be changed", "Say what, for instance --for 3h.")
        request = window_service_pb2.UpdateWindowRequest(window=wanted, update_mask=FieldMask(paths=paths))
        changed = master.call(master.windows.UpdateWindow, request).window
        _print(invocation, master, changed)


@window.command("delete")
@window_argument
@yes_option
@pass_invocation
def delete_window(invocation: Invocation, reference: str, owner: str, confirmed: bool) -> None:
    """Delete a window, as if it were over: what it holds back and what still stands is acted on."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.windows.references import find_window, window_owner
    from tenantry.v1 import window_service_pb2

    with invocation.connect() as master:
        found = find_window(master, reference, owner)
        name = escape(f"{found.name} of {window_owner(found)}")
        confirm(confirmed, [f"This deletes the maintenance window {name}."], "Delete it?")
        request = window_service_pb2.DeleteWindowRequest(id=found.id, etag=found.etag)
        master.call(master.windows.DeleteWindow, request)
    invocation.printer().document(to_plain(found), lambda: [f"Deleted the maintenance window {name}."])


@window.command("calendar")
@click.option("--start", default="now", show_default=True, metavar="TIME", help="From when on.")
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, metavar="N", help="For so long.")
@owner_option
@pass_invocation
def calendar(invocation: Invocation, start: str, days: int, owner: str) -> None:
    """When windows are in force, in this machine's time zone."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import now_ms, parse_moment, to_timestamp
    from tenantry.cli.owners import find_owner
    from tenantry.cli.windows.view import occurrence_columns
    from tenantry.v1 import window_service_pb2

    begin = parse_moment(start, now_ms())
    with invocation.connect() as master:
        request = window_service_pb2.ListOccurrencesRequest(
            start_time=to_timestamp(begin),
            end_time=to_timestamp(begin + days * _DAY_MS),
            filter=window_service_pb2.WindowFilter(owner=find_owner(master, owner) if owner else ""),
        )
        answer = master.call(master.windows.ListOccurrences, request)
    invocation.printer().listing(answer.occurrences, occurrence_columns(), to_plain, "No window is in force then.")
    if answer.truncated:
        click.echo("There are more; ask for fewer days.", err=True)


def _fill(master: Master, wanted: pb.Window, options: dict[str, Any], present: pb.Window | None = None) -> list[str]:
    """Write what the options say into a window; the paths that they say something of."""
    from tenantry.cli.references import find_tenant
    from tenantry.cli.windows.references import find_rules
    from tenantry.v1 import link_service_pb2

    paths: list[str] = []
    if any(options[name] is not None for name in ("cron", "zone", "lasting", "start", "end")):
        paths.append(_schedule(wanted, options, present))
    if options["description"] is not None:
        wanted.description = options["description"]
        paths.append("description")
    if options["tenants"] or options["rules"] or options["severities"]:
        paths.append("scope")
    if options["tenants"]:
        wanted.scope.tenant_guids[:] = [find_tenant(master, one).guid for one in options["tenants"]]
    if options["rules"]:
        wanted.scope.rules[:] = find_rules(master, options["rules"])
    if options["severities"]:
        wanted.scope.severities[:] = [
            link_service_pb2.Severity.Value(f"SEVERITY_{word.upper()}") for word in options["severities"]
        ]
    return paths


def _schedule(wanted: pb.Window, options: dict[str, Any], present: pb.Window | None) -> str:
    from tenantry.cli.moments import now_ms, parse_length, parse_moment, timestamp_ms, to_duration, to_timestamp

    now = now_ms()
    lasting = None if options["lasting"] is None else parse_length(options["lasting"])
    start, end = (None if options[name] is None else parse_moment(options[name], now) for name in ("start", "end"))
    recurring = present is not None and present.HasField("recurrence")
    if (
        options["cron"] is not None
        or options["zone"] is not None
        or (recurring and lasting is not None and start is None)
    ):
        recurrence = wanted.recurrence
        if recurring and present is not None:
            recurrence.CopyFrom(present.recurrence)
        recurrence.cron = options["cron"] or recurrence.cron
        recurrence.time_zone = options["zone"] or recurrence.time_zone or "UTC"
        if lasting is not None:
            recurrence.duration.CopyFrom(to_duration(lasting))
        for field, moment in (("start_time", start), ("end_time", end)):
            if moment is not None:
                getattr(recurrence, field).CopyFrom(to_timestamp(moment))
        if not recurrence.HasField("duration"):
            raise InputInvalid("say how long the window lasts", "Add --for, for instance --for 2h.")
        return "recurrence"
    if present is not None and present.HasField("once"):
        start = timestamp_ms(present.once.start_time) if start is None else start
        end = timestamp_ms(present.once.end_time) if end is None and lasting is None else end
    if start is None or (end is None) == (lasting is None):
        raise InputInvalid("say when the window begins and how long it lasts", "Add --start, and --for or --end.")
    wanted.once.start_time.CopyFrom(to_timestamp(start))
    wanted.once.end_time.CopyFrom(to_timestamp(start + lasting if lasting is not None else end or 0))
    return "once"


def _print(invocation: Invocation, master: Master, found: pb.Window) -> None:
    from tenantry.cli.documents import to_plain
    from tenantry.cli.windows.references import names_in_scope
    from tenantry.cli.windows.view import window_details

    printer = invocation.printer()
    printer.document(to_plain(found), lambda: printer.details(window_details(found, names_in_scope(master, found))))
