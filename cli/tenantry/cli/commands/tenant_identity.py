"""tenant rekey, quarantine: acts on a Tenant's identity."""

from __future__ import annotations

from pathlib import Path

import click

from tenantry.cli.commands.choices import etag_option, reason_option, tenant_argument, yes_option
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Verb, pass_invocation


@click.command("rekey", cls=Verb)
@tenant_argument
@reason_option
@click.option("--revoke", is_flag=True, help="Revoke its certificates and cut its link now, not when the key is used.")
@click.option("--key-lifetime", metavar="DURATION", help="How long the key works, 1m to 24h.  [default: 30m]")
@click.option(
    "--join-file", type=click.Path(path_type=Path), help="Write the join string there (0600), do not show it."
)
@etag_option
@yes_option
@pass_invocation
def rekey_tenant(
    invocation: Invocation,
    reference: str,
    reason: str,
    revoke: bool,
    key_lifetime: str | None,
    join_file: Path | None,
    etag: str,
    confirmed: bool,
) -> None:
    """Make a new enrolment key for a Tenant; shows it once. An older key that is unused stops working."""
    from tenantry.cli.commands.enrolment import show_enrolment, would_write
    from tenantry.cli.moments import parse_length, to_duration
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import one_line
    from tenantry.v1 import tenant_service_pb2 as pb

    would_write(join_file)
    with invocation.connect() as master:
        found = find_tenant(master, reference)
        request = pb.RekeyTenantRequest(
            guid=found.guid, reason=reason, etag=etag or found.etag, revoke_certificates=revoke
        )
        if key_lifetime is not None:
            request.key_lifetime.CopyFrom(to_duration(parse_length(key_lifetime)))
        if revoke:
            confirm(confirmed, [f"This cuts the link of {one_line(found)} until it joins again."], "Go on?")
        answer = master.call(master.tenants.RekeyTenant, request)
    show_enrolment(invocation.printer(), answer.tenant, answer.enrolment, join_file)


@click.command("quarantine", cls=Verb)
@tenant_argument
@click.option(
    "--keep",
    type=click.Choice(("current", "newcomer")),
    required=True,
    help="The machine that kept the link, or the one that was refused.",
)
@reason_option
@pass_invocation
def resolve_quarantine(invocation: Invocation, reference: str, keep: str, reason: str) -> None:
    """Decide which of two machines is the Tenant. To trust neither: `tenantry tenant rekey --revoke`."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import one_line
    from tenantry.v1 import tenant_service_pb2 as pb

    with invocation.connect() as master:
        found = find_tenant(master, reference)
        request = pb.ResolveQuarantineRequest(
            guid=found.guid,
            decision=pb.ResolveQuarantineRequest.Decision.Value(f"DECISION_KEEP_{keep.upper()}"),
            reason=reason,
        )
        decided = master.call(master.tenants.ResolveQuarantine, request).tenant
    goes_on = "the machine that kept the link" if keep == "current" else "the newcomer, at its next connection,"
    invocation.printer().document(to_plain(decided), lambda: [f"{one_line(decided)}: {goes_on} goes on."])
