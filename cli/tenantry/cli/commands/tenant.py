"""tenant create, list, show, delete."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.choices import (
    ORDERS,
    etag_option,
    filter_options,
    reason_option,
    tenant_argument,
    tenant_filter,
    yes_option,
)
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import DeadlineExceeded, MasterUnreachable

if TYPE_CHECKING:
    from tenantry.v1 import tenant_pb2


@click.group(cls=Noun)
def tenant() -> None:
    """Tenants: register them, look at them, move them.

    TENANT is a GUID, at least 4 characters of its beginning, NAME/INSTANCE, or a NAME that only one has.
    """


@tenant.command("create")
@click.argument("name")
@click.argument("instance")
@click.option("--description", default="", metavar="TEXT")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be repeated.")
@click.option("--recipient", "recipients", multiple=True, metavar="MAIL", help="Who gets its reports; may be repeated.")
@click.option("--key-lifetime", metavar="DURATION", help="How long the key works, 1m to 24h.  [default: 30m]")
@click.option(
    "--join-file", type=click.Path(path_type=Path), help="Write the join string there (0600), do not show it."
)
@pass_invocation
def create_tenant(
    invocation: Invocation,
    name: str,
    instance: str,
    description: str,
    tags: tuple[str, ...],
    recipients: tuple[str, ...],
    key_lifetime: str | None,
    join_file: Path | None,
) -> None:
    """Register a Tenant. Shows what it needs to join, once."""
    from tenantry.cli.commands.enrolment import show_enrolment, would_write
    from tenantry.cli.moments import parse_length, to_duration
    from tenantry.v1 import tenant_pb2, tenant_service_pb2

    would_write(join_file)
    request = tenant_service_pb2.CreateTenantRequest(
        tenant=tenant_pb2.Tenant(
            tenant_name=name, instance_name=instance, description=description, tags=tags, recipients=recipients
        ),
        request_id=str(uuid.uuid4()),
    )
    if key_lifetime is not None:
        request.key_lifetime.CopyFrom(to_duration(parse_length(key_lifetime)))
    with invocation.connect() as master:
        try:
            answer = master.call(master.tenants.CreateTenant, request)
        except (DeadlineExceeded, MasterUnreachable):
            # It may have been done although the answer was lost: the same request id makes a second attempt safe.
            answer = master.call(master.tenants.CreateTenant, request)
    show_enrolment(invocation.printer(), answer.tenant, answer.enrolment, join_file)


@tenant.command("list")
@filter_options
@click.option("--order", type=click.Choice(tuple(ORDERS)), default="name", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@pass_invocation
def list_tenants(
    invocation: Invocation,
    states: tuple[str, ...],
    connectivities: tuple[str, ...],
    tags: tuple[str, ...],
    text: str,
    quarantined: bool,
    order: str,
    limit: int | None,
) -> None:
    """The Tenants. Written page by page, so that `| head` is quick however many there are."""
    from tenantry.cli import references
    from tenantry.cli.documents import to_plain
    from tenantry.cli.progress import Progression
    from tenantry.cli.tenant_view import list_columns
    from tenantry.v1 import tenant_service_pb2 as pb

    request = pb.ListTenantsRequest(
        page_size=min(limit or references.PAGE, references.PAGE),
        filter=tenant_filter(states, connectivities, tags, text, quarantined=quarantined),
        order=pb.TenantOrder.Value(ORDERS[order]),
    )
    printer = invocation.printer()
    with invocation.connect() as master, Progression("Tenants", quiet=sys.stdout.isatty()) as progression:
        columns = list_columns(master.now_ms() if printer.for_people else 0)
        found = references.list_tenants(master, request, progression.show)
        printer.listing(islice(found, limit), columns, to_plain, "No Tenants match.")


@tenant.command("show")
@tenant_argument
@pass_invocation
def show_tenant(invocation: Invocation, reference: str) -> None:
    """Everything of one Tenant."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import details

    printer = invocation.printer()
    with invocation.connect() as master:
        found = find_tenant(master, reference)
        now = master.now_ms() if printer.for_people else 0
    printer.document(to_plain(found), lambda: printer.details(details(found, now)))


@tenant.command("delete")
@tenant_argument
@reason_option
@etag_option
@yes_option
@pass_invocation
def delete_tenant(invocation: Invocation, reference: str, reason: str, etag: str, confirmed: bool) -> None:
    """Delete a Tenant: revokes its certificates and cuts its link at once.

    Its rules and the roles at it go with it. Its history stays, its GUID never comes back.
    """
    from tenantry.cli.documents import to_plain
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import one_line
    from tenantry.v1 import tenant_service_pb2 as pb

    printer = invocation.printer()
    with invocation.connect() as master:
        found = find_tenant(master, reference)
        confirm(confirmed, list(_what_goes(found)), "Delete it?")
        # The etag: what is deleted is what was shown.
        request = pb.DeleteTenantRequest(guid=found.guid, reason=reason, etag=etag or found.etag)
        deleted = master.call(master.tenants.DeleteTenant, request).tenant
    printer.document(to_plain(deleted), lambda: [f"Deleted {one_line(deleted)}."])


def _what_goes(found: tenant_pb2.Tenant) -> Iterator[str]:
    from tenantry.cli.tenant_view import connectivity_cell, one_line, state_cell

    yield f"This deletes {one_line(found)},"
    yield f"state {state_cell(found).text}, {connectivity_cell(found).text}."
