"""status: what the Master says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tenantry.cli.invocation import Invocation, Verb, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.output import Cell
    from tenantry.v1 import master_service_pb2 as pb


@click.command(cls=Verb)
@pass_invocation
def status(invocation: Invocation) -> None:
    """What the Master is, and how its Tenants do."""
    from tenantry.cli.documents import to_plain

    with invocation.connect() as master:
        described = master.describe()
        address = f"{master.host} port {master.port}"
    printer = invocation.printer()
    printer.document(to_plain(described), lambda: printer.details(_details(described, address)))


def _details(described: pb.GetMasterResponse, address: str) -> Iterator[tuple[str, str | Cell]]:
    from tenantry.cli.moments import duration_ms, length, local_time, timestamp_ms
    from tenantry.cli.output import Cell
    from tenantry.cli.tenant_view import CONNECTIVITY_COLOURS, STATE_COLOURS, connectivity_word, state_word

    now, started = timestamp_ms(described.server_time), timestamp_ms(described.start_time)
    yield "Master", f"{address}, version {described.version}, {described.store}"
    yield "Instance", described.instance_id
    yield "Trust domain", described.trust_domain
    yield "CA fingerprint", described.ca_fingerprint
    yield "Signed in as", described.caller
    yield "Clock", local_time(now)
    yield "Running for", length(max(0, now - started))
    yield (
        "Stale, lost after",
        f"{length(duration_ms(described.stale_after))}, {length(duration_ms(described.lost_after))}",
    )
    yield "Open links", str(described.open_links)
    yield "Tenants", str(sum(row.count for row in described.tenant_counts))
    for state in sorted({row.state for row in described.tenant_counts}):
        rows = [row for row in described.tenant_counts if row.state == state and row.count]
        parts = ", ".join(f"{row.count} {connectivity_word(row.connectivity)}" for row in rows)
        alarming = any(CONNECTIVITY_COLOURS.get(row.connectivity) == "red" for row in rows)
        yield f"  {state_word(state)}", Cell(parts, "red" if alarming else STATE_COLOURS.get(state))
