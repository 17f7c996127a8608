"""alert list, show, watch. The work on alerts is in alert_work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.choices import Decorated
from tenantry.cli.completions import alert_ids, rule_names, tenant_references, user_names
from tenantry.cli.invocation import Invocation, Noun, pass_invocation

if TYPE_CHECKING:
    from tenantry.v1 import alert_service_pb2 as pb

STATUSES: Final = ("new", "acknowledged", "assigned", "in-progress", "pending", "resolved")
SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
LEVELS: Final = ("minor", "major", "critical")
SOURCES: Final = ("rule", "tenant", "system")
CLASSIFICATIONS: Final = ("none", "info", "true-positive", "false-positive")
ORDERS: Final = {"newest": "ALERT_ORDER_NEWEST", "oldest": "ALERT_ORDER_OLDEST", "worst": "ALERT_ORDER_WORST"}


def filter_options(command: Decorated) -> Decorated:
    """The options that say which alerts are meant; they arrive as the fields of `alerts.references.Wanted`."""
    for option in reversed(
        (
            click.option(
                "--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Several: any of them."
            ),
            click.option(
                "--severity", "severities", multiple=True, type=click.Choice(SEVERITIES), help="Several: any."
            ),
            click.option("--level", "levels", multiple=True, type=click.Choice(LEVELS), help="The worst so far."),
            click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Who found it."),
            click.option(
                "--classification", "classifications", multiple=True, type=click.Choice(CLASSIFICATIONS), help="As set."
            ),
            click.option(
                "--tenant",
                "tenants",
                multiple=True,
                metavar="TENANT",
                shell_complete=tenant_references,
                help="Only about this Tenant; may be repeated.",
            ),
            click.option("--rule", default="", metavar="RULE", shell_complete=rule_names, help="Its name, or its id."),
            click.option("--assignee", metavar="USER", shell_complete=user_names, help="Assigned to this user."),
            click.option("--mine", is_flag=True, help="Assigned to you."),
            click.option("--unassigned", is_flag=True, help="Assigned to nobody."),
            click.option("--text", default="", metavar="TEXT", help="Part of the rule's name or of the message."),
            click.option("--since", metavar="TIME", help="Fired last since then: -1h, 2026-01-31, …"),
            click.option("--until", metavar="TIME", help="Fired last before then."),
            click.option("--standing/--over", default=None, help="Only what still is so, or only what is over."),
            click.option("--late/--not-late", default=None, help="Only those found late, or only the others."),
            click.option("--muted", is_flag=True, help="Only what a maintenance window holds back."),
            click.option("--all", "everything", is_flag=True, help="Also resolved ones."),
        )
    ):
        command = option(command)
    return command


@click.group(cls=Noun)
def alert() -> None:
    """Alerts: what was found wrong, and how far the work on it is.

    An alert is named by its id, or by the beginning of it as `alert list` shows it. Firings of one rule for one Tenant fill one alert
    until it is resolved.
    """


@alert.command("list")
@filter_options
@click.option("--order", type=click.Choice(list(ORDERS)), default="newest", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), default=0, metavar="N", help="At most this many.  [default: all]")
@pass_invocation
def list_them(invocation: Invocation, /, order: str, limit: int, **options: Any) -> None:
    """Open alerts, the newest first; resolved ones too with --all."""
    from itertools import islice

    from tenantry.cli.alerts.references import PAGE, Wanted, alert_filter, list_alerts
    from tenantry.cli.alerts.view import alert_columns
    from tenantry.cli.documents import to_plain
    from tenantry.v1 import alert_service_pb2

    printer = invocation.printer()
    with invocation.connect() as master:
        wanted = alert_filter(master, Wanted(**options))
        number = alert_service_pb2.AlertOrder.Value(ORDERS[order])
        found = islice(list_alerts(master, wanted, number, min(limit or PAGE, PAGE)), limit or None)
        now = master.now_ms() if printer.for_people else 0
        printer.listing(found, alert_columns(now), to_plain, "No alerts match.")


@alert.command("show")
@click.argument("reference", metavar="ID", shell_complete=alert_ids)
@click.option("--records", is_flag=True, help="Also the copies of the records that made it fire.")
@pass_invocation
def show_alert(invocation: Invocation, reference: str, records: bool) -> None:
    """Everything of one alert, and what happened to it."""
    from tenantry.cli.alerts.references import find_alert_id
    from tenantry.cli.alerts.view import alert_details, change_lines, copy_line
    from tenantry.cli.documents import to_plain
    from tenantry.v1 import alert_service_pb2

    printer = invocation.printer()
    with invocation.connect() as master:
        request = alert_service_pb2.GetAlertRequest(id=find_alert_id(master, reference))
        found = master.call(master.alerts.GetAlert, request)
        now = master.now_ms() if printer.for_people else 0

    def lines() -> Iterator[str]:
        yield from printer.details(alert_details(found.alert, now))
        yield ""
        yield from change_lines(found.changes)
        if records:
            yield ""
            yield from map(copy_line, found.copies)
        elif found.copies:
            yield f"{len(found.copies)} records are kept with it; --records shows them."

    printer.document(to_plain(found), lines)


@alert.command("watch")
@filter_options
@pass_invocation
def watch_alerts(invocation: Invocation, /, **options: Any) -> None:
    """Follow alerts until Ctrl-C: on a terminal as a live table, else a line for each change. Reconnects and goes on where it was."""
    from tenantry.cli.alerts.board import AlertBoard, plain_line
    from tenantry.cli.alerts.references import Wanted, alert_filter
    from tenantry.cli.diagnosis import diagnose
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.following import keep_following
    from tenantry.cli.live import LiveTable
    from tenantry.cli.moments import now_ms
    from tenantry.v1 import alert_service_pb2

    printer = invocation.printer()
    with invocation.connect() as master:
        wanted = alert_filter(master, Wanted(**options))
        offset, cursor = master.clock_offset_ms, ""
        board = AlertBoard(f"Alerts of {master.host}", lambda: now_ms() + offset)
        live = printer.for_people and sys.stdout.isatty()

        def messages() -> Iterator[pb.WatchAlertsResponse]:
            request = alert_service_pb2.WatchAlertsRequest(filter=wanted, after_cursor=cursor)
            return master.follow(master.alerts.WatchAlerts, request)

        def interrupted(error: Exception | None, pause: float) -> None:
            said = diagnose(error).message if error else "the Master ended the watch"
            board.note(f"not following: {said}")
            if not live:
                click.echo(f"Not following: {escape(said)}; next attempt in {pause:.1f} s", err=True)

        followed = keep_following(messages, interrupted)
        if live:
            from rich.console import Console

            with LiveTable(Console(no_color=not printer.colour, highlight=False), board):
                for message in followed:
                    board.apply(message)
                    cursor = message.cursor or cursor
        for message in followed:
            printer.element(to_plain(message), lambda: plain_line(message, now_ms() + offset))  # noqa: B023 - called at once
            cursor = message.cursor or cursor
