"""tenant watch: a table that keeps moving, plain lines, or JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.choices import filter_options, tenant_filter
from tenantry.cli.invocation import Invocation, Verb, pass_invocation

if TYPE_CHECKING:
    from tenantry.v1 import tenant_service_pb2 as pb


@click.command("watch", cls=Verb)
@filter_options
@click.option(
    "--interval", default="1s", show_default=True, metavar="DURATION", help="How often figures move; 200ms to 5m."
)
@pass_invocation
def watch_tenants(
    invocation: Invocation,
    states: tuple[str, ...],
    connectivities: tuple[str, ...],
    tags: tuple[str, ...],
    text: str,
    quarantined: bool,
    interval: str,
) -> None:
    """Follow Tenants until Ctrl-C: on a terminal as a live table, else a line for each change. Reconnects by itself."""
    from tenantry.cli.diagnosis import diagnose
    from tenantry.cli.documents import to_plain
    from tenantry.cli.following import keep_following
    from tenantry.cli.live import LiveTable, TenantBoard, plain_line
    from tenantry.cli.moments import now_ms, parse_length, to_duration
    from tenantry.v1 import tenant_service_pb2 as service_pb

    request = service_pb.WatchTenantsRequest(
        filter=tenant_filter(states, connectivities, tags, text, quarantined=quarantined),
        interval=to_duration(parse_length(interval)),
    )
    printer = invocation.printer()
    with invocation.connect() as master:
        board = TenantBoard(f"Tenants of {master.host}", master.now_ms)
        offset = master.clock_offset_ms
        live = printer.for_people and sys.stdout.isatty()

        def messages() -> Iterator[pb.WatchTenantsResponse]:
            return master.follow(master.tenants.WatchTenants, request)

        def interrupted(error: Exception | None, pause: float) -> None:
            said = diagnose(error).message if error else "the Master ended the watch"
            board.restart(f"not following: {said}")
            if not live:
                click.echo(f"Not following: {said}; next attempt in {pause:.1f} s", err=True)

        followed = keep_following(messages, interrupted)
        if live:
            from rich.console import Console

            with LiveTable(Console(no_color=not printer.colour, highlight=False), board):
                for message in followed:
                    board.apply(message)
        for message in followed:
            printer.element(to_plain(message), lambda: plain_line(message, now_ms() + offset))  # noqa: B023 - called at once
