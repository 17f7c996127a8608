"""Options and words that several commands share. The words are those of the contract's enums, in lower case."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from tenantry.cli.completions import tenant_references

if TYPE_CHECKING:
    from tenantry.v1 import tenant_service_pb2 as pb

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

STATES: Final = ("unregistered", "maintenance", "active", "alert", "deleted")
CONNECTIVITIES: Final = ("never-connected", "connected", "stale", "lost", "left")
ORDERS: Final = {
    "name": "TENANT_ORDER_NAME",
    "newest": "TENANT_ORDER_CREATE_TIME_DESCENDING",
    "state": "TENANT_ORDER_STATE",
    "heartbeat": "TENANT_ORDER_LAST_HEARTBEAT",
}


def filter_options(command: Decorated) -> Decorated:
    """The options that say which Tenants are meant; `tenant_filter` makes the filter of them."""
    for option in (
        click.option("--quarantined", is_flag=True, help="Only those in quarantine."),
        click.option("--text", default="", metavar="TEXT", help="Part of a name or of the GUID."),
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="With this tag; several: with all of them."),
        click.option(
            "--connectivity",
            "connectivities",
            multiple=True,
            type=click.Choice(CONNECTIVITIES),
            help="Several: any of.",
        ),
        click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Several: any of them."),
    ):
        command = option(command)
    return command


def tenant_filter(
    states: tuple[str, ...], connectivities: tuple[str, ...], tags: tuple[str, ...], text: str, *, quarantined: bool
) -> pb.TenantFilter:
    """The filter that the options of `filter_options` say."""
    from tenantry.v1 import tenant_pb2, tenant_service_pb2

    return tenant_service_pb2.TenantFilter(
        states=[tenant_pb2.TenantState.Value(f"TENANT_STATE_{word.upper()}") for word in states],
        connectivities=[
            tenant_pb2.Connectivity.Value(f"CONNECTIVITY_{word.upper().replace('-', '_')}") for word in connectivities
        ],
        tags=tags,
        text=text,
        quarantined=quarantined,
    )


def tenant_argument(command: Decorated) -> Decorated:
    """The argument TENANT."""
    return click.argument("reference", metavar="TENANT", shell_complete=tenant_references)(command)


def tenant_option(command: Decorated) -> Decorated:
    """The option --tenant, which may be repeated."""
    return click.option(
        "--tenant",
        "references",
        multiple=True,
        metavar="TENANT",
        shell_complete=tenant_references,
        help="Only of this Tenant; may be repeated.",
    )(command)


def reason_option(command: Decorated) -> Decorated:
    """The option --reason."""
    return click.option("--reason", default="", metavar="TEXT", help="Why; is kept in the history.")(command)


def etag_option(command: Decorated) -> Decorated:
    """The option --etag."""
    return click.option("--etag", default="", metavar="ETAG", help="Refuse when the etag is another one by now.")(
        command
    )


yes_option = click.option("--yes", "-y", "confirmed", is_flag=True, help="Do not ask.")
