"""tenant activate, maintain, alert: moves through the life cycle, of one Tenant or of many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.choices import filter_options, reason_option, tenant_filter, yes_option
from tenantry.cli.completions import tenant_references
from tenantry.cli.confirmation import confirm
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid, SomeRefused, Trouble
from tenantry.protocol.failures import Failure

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Printer
    from tenantry.v1 import tenant_pb2 as pb

# So many moves are under way at once: enough to hide the network's delay, no burden for the Master.
IN_FLIGHT: Final = 16
MOVES: Final = {
    "activate": ("Activate", "Active", "Move Tenants to Active: they send everything and are supervised."),
    "maintain": ("Maintain", "Maintenance", "Move Tenants to Maintenance: they send nothing and are not supervised."),
    "alert": ("Alert", "Alert", "Move Tenants to Alert: something is wrong with them."),
}


def move_command(verb: str) -> click.Command:
    """The command for one of MOVES."""
    prefix, state, explanation = MOVES[verb]

    def run(invocation: Invocation, **typed: Any) -> None:
        _move(invocation, prefix, state, **typed)

    decorated: Callable[..., Any] = pass_invocation(run)
    for option in (
        yes_option,
        reason_option,
        filter_options,
        click.option("--all", "every", is_flag=True, help="Instead of names: every Tenant that the filters match."),
        click.argument("references", metavar="[TENANT]...", nargs=-1, shell_complete=tenant_references),
    ):
        decorated = option(decorated)
    return click.command(verb, cls=Verb, help=explanation)(decorated)


def _move(
    invocation: Invocation,
    prefix: str,
    state: str,
    references: tuple[str, ...],
    every: bool,
    states: tuple[str, ...],
    connectivities: tuple[str, ...],
    tags: tuple[str, ...],
    text: str,
    quarantined: bool,
    reason: str,
    confirmed: bool,
) -> None:
    from tenantry.v1 import tenant_service_pb2 as service_pb

    filtered = bool(states or connectivities or tags or text or quarantined)
    if bool(references) == every or (filtered and not every):
        raise InputInvalid("say which Tenants", "Name them, or use --all, alone or with filters.")
    printer = invocation.printer()
    with invocation.connect() as master:
        if every:
            chosen = tenant_filter(states, connectivities, tags, text, quarantined=quarantined)
            found = _all(master, service_pb.ListTenantsRequest(filter=chosen, page_size=1_000))
            confirm(confirmed, [f"This moves {len(found):,} Tenants to {state}."], "Go on?")
        else:
            found = _named(master, references)
        make_request = getattr(service_pb, f"{prefix}TenantRequest")
        method = getattr(master.tenants, f"{prefix}Tenant")
        begin = lambda one: master.begin(method, make_request(guid=one.guid, reason=reason))  # noqa: E731
        outcomes = _under_way(found, begin)
        _report(printer, outcomes, len(found), state)


def _named(master: Master, references: tuple[str, ...]) -> list[pb.Tenant]:
    from tenantry.cli.references import find_tenant

    # All names are looked up before anything moves: a typing mistake changes nothing.
    found = [find_tenant(master, reference) for reference in references]
    return list({one.guid: one for one in found}.values())


def _all(master: Master, request: Any) -> list[pb.Tenant]:
    from tenantry.cli.progress import Progression
    from tenantry.cli.references import list_tenants

    with Progression("Looking up") as progression:
        return list(list_tenants(master, request, progression.show))


def _under_way(
    found: list[pb.Tenant], begin: Callable[[pb.Tenant], Callable[[], Any]]
) -> Iterator[tuple[pb.Tenant, Failure | Trouble | None]]:
    """Each Tenant as it is afterwards, or as it was with what refused the move; in the order given."""
    waiting: deque[tuple[pb.Tenant, Callable[[], Any]]] = deque()
    for one in found:
        waiting.append((one, begin(one)))
        if len(waiting) >= IN_FLIGHT:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _outcome(one: pb.Tenant, wait: Callable[[], Any]) -> tuple[pb.Tenant, Failure | Trouble | None]:
    try:
        return wait().tenant, None
    except (Failure, Trouble) as error:
        return one, error


def _report(
    printer: Printer, outcomes: Iterator[tuple[pb.Tenant, Failure | Trouble | None]], total: int, state: str
) -> None:
    """Write each outcome as it comes. Raises what refused a single move, or SomeRefused."""
    from tenantry.cli.diagnosis import diagnose
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.output import Column
    from tenantry.cli.progress import Progression
    from tenantry.cli.tenant_view import one_line

    refused: list[tuple[pb.Tenant, Failure | Trouble]] = []

    def moved() -> Iterator[pb.Tenant]:
        with Progression(f"Moving to {state}") as progression:
            for count, (one, error) in enumerate(outcomes, 1):
                if error is None:
                    yield one
                elif total == 1:
                    raise error
                else:
                    refused.append((one, error))
                    click.echo(f"{one_line(one)}: {escape(diagnose(error).message)}", err=True)
                progression.show(count, total)

    if printer.for_people:
        for one in moved():
            click.echo(f"{one_line(one)} is now {state}.")
    else:
        columns: list[Column[pb.Tenant]] = []
        printer.listing(moved(), columns, to_plain, "")
    if not total:
        click.echo("No Tenants match.", err=True)
    if refused:
        first = diagnose(refused[0][1])
        raise SomeRefused(f"{len(refused):,} of {total:,} Tenants were not moved", first.hint, first.exit_code)


commands: Final = tuple(map(partial(move_command), MOVES))
