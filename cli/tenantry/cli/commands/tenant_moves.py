"""tenant activate, maintain, alert: moves through the life cycle, of one Tenant or of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.choices import reason_option, yes_option
from tenantry.cli.completions import tenant_references
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import tenant_service_pb2 as pb

MOVES: Final = {
    "activate": ("Active", "Move Tenants to Active: they send everything and are supervised."),
    "maintain": ("Maintenance", "Move Tenants to Maintenance: they send nothing and are not supervised."),
    "alert": ("Alert", "Move Tenants to Alert: something is wrong with them."),
}
_EPILOG: Final = """\b
Before more than one Tenant is moved, their names are shown with what would become of
each, and you are asked. The command ends with 0 when all are in the wanted state, also
where they were before. Who is refused stays where it is and is reported by itself; the
code is that of the first refusal. A daemon that has not reported in time changes nothing
about the code: the move is stored, and the daemon obeys as soon as it can."""


def move_command(verb: str) -> click.Command:
    """The command for one of MOVES."""
    state, explanation = MOVES[verb]

    def run(invocation: Invocation, **typed: Any) -> None:
        _move(invocation, state, **typed)

    decorated: Callable[..., Any] = pass_invocation(run)
    for option in (
        yes_option,
        click.option(
            "--wait",
            default="10s",
            show_default=True,
            metavar="DURATION",
            help="How long to wait until the daemons say that they work by it, at most 1m; 0: not at all.",
        ),
        reason_option,
        click.option("--all-tenants", "every", is_flag=True, help="All Tenants that there are; the audit says so."),
        click.option(
            "--filter",
            "expression",
            metavar="EXPR",
            help="All that match: terms like state=maintenance, connectivity=lost, tag=berlin, text=web, name=Acme,"
            " instance=main, quarantined.",
        ),
        click.argument("references", metavar="[TENANT]...", nargs=-1, shell_complete=tenant_references),
    ):
        decorated = option(decorated)
    return click.command(verb, cls=Verb, help=explanation, epilog=_EPILOG)(decorated)


def _move(
    invocation: Invocation,
    state: str,
    references: tuple[str, ...],
    expression: str | None,
    every: bool,
    reason: str,
    wait: str,
    confirmed: bool,
) -> None:
    from tenantry.cli.commands.filtering import parse_filter
    from tenantry.cli.many_moves import carry_out, echo, foresee, make_orders, report
    from tenantry.cli.moments import parse_length
    from tenantry.v1 import tenant_pb2, tenant_service_pb2

    if (bool(references), expression is not None, every).count(True) != 1:
        raise InputInvalid("say which Tenants", "Name them, or use --filter EXPR or --all-tenants: one of the three.")
    wanted = tenant_service_pb2.TenantFilter() if expression is None else parse_filter(expression)
    wait_ms = parse_length(wait)
    with invocation.connect() as master:
        if references:
            guids, selection = _named(master, references), "SELECTION_NAMED"
        else:
            guids = _matching(master, wanted)
            selection = "SELECTION_ALL_TENANTS" if every else "SELECTION_FILTER"
        number = tenant_pb2.TenantState.Value(f"TENANT_STATE_{state.upper()}")
        orders = make_orders(guids, number, reason, selection, wait_ms)
        if len(guids) > 1:
            for line in echo(foresee(master, orders), state):
                click.echo(line, err=True)
            confirm(confirmed, [], "Go on?")
        moves = carry_out(master, orders, state)
    if not guids:
        click.echo("No Tenants match.", err=True)
    report(invocation.printer(), moves, state)


def _named(master: Master, references: Sequence[str]) -> list[str]:
    from tenantry.cli.references import find_tenant

    # All names are looked up before anything moves: a typing mistake changes nothing.
    return list(dict.fromkeys(find_tenant(master, reference).guid for reference in references))


def _matching(master: Master, wanted: pb.TenantFilter) -> list[str]:
    from tenantry.cli.progress import Progression
    from tenantry.cli.references import list_tenants
    from tenantry.v1 import tenant_service_pb2

    request = tenant_service_pb2.ListTenantsRequest(filter=wanted, page_size=1_000)
    with Progression("Looking up") as progression:
        return [one.guid for one in list_tenants(master, request, progression.show)]


commands: Final = tuple(map(move_command, MOVES))
