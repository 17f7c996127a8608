"""tunnel forward, stdio, socks: the ends of tunnels on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tenantry.cli.commands.choices import tenant_argument
from tenantry.cli.invocation import Invocation, Verb, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Printer
    from tenantry.cli.tunnels.holding import Wish
    from tenantry.cli.tunnels.serving import Listening
    from tenantry.protocol.tunnels.targets import Target
    from tenantry.v1.tenant_pb2 import Tenant

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def tunnel_options(command: Decorated) -> Decorated:
    """The options --reason and --for; `wish_for` makes use of them."""
    for option in (
        click.option(
            "--for",
            "lifetime",
            metavar="DURATION",
            help="End after this time, such as 30m.  [default: the longest that Master and Tenant allow]",
        ),
        click.option(
            "--reason", default="", metavar="TEXT", help="Why; is kept in the audit, and shown at the Tenant."
        ),
    ):
        command = option(command)
    return command


any_user_option = click.option(
    "--any-user", is_flag=True, help="On loopback, serve other users of this machine too, not only yourself."
)


def wish_for(tenant: str, targets: tuple[Target, ...], reason: str, lifetime: str | None) -> Wish:
    """What is asked of the Master. Raises InputInvalid."""
    from tenantry.cli.moments import parse_length
    from tenantry.cli.troubles import InputInvalid
    from tenantry.cli.tunnels.holding import Wish

    if lifetime is None:
        return Wish(tenant, targets, reason)
    length_ms = parse_length(lifetime)
    if length_ms <= 0:
        raise InputInvalid("a tunnel cannot end before it begins", "Leave --for out for the longest that is allowed.")
    return Wish(tenant, targets, reason, length_ms)


@click.command("forward", cls=Verb)
@tenant_argument
@click.argument("forwards", metavar="[[ADDRESS:]LOCAL:]HOST:PORT...", nargs=-1, required=True)
@any_user_option
@tunnel_options
@pass_invocation
def forward_ports(
    invocation: Invocation,
    reference: str,
    forwards: tuple[str, ...],
    any_user: bool,
    reason: str,
    lifetime: str | None,
) -> None:
    """Listen on this machine and carry each connection to HOST:PORT, seen from TENANT, until Ctrl-C.

    \b
    5432                        port 5432 of the Tenant itself, here on port 5432
    15432:5432                  the same, here on port 15432
    db.internal:5432            a machine in the Tenant's network; its name is resolved there
    15432:db.internal:5432      the same, here on port 15432
    :db.internal:5432           here on any free port, which is printed
    [::1]:8022:[fd00::7]:22     IPv6 stands in brackets; the first address is one of this machine

    Without an address it listens on 127.0.0.1. Stays up while the Master restarts or the Tenant is away; connections that
    were open when the Master or the Tenant's daemon stopped are reset.
    """  # noqa: D301
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tunnels.running import run, tell
    from tenantry.cli.tunnels.serving import forward, warnings
    from tenantry.cli.tunnels.spelling import parse_forward

    wanted = [parse_forward(text) for text in forwards]
    targets = tuple(dict.fromkeys(one.target for one in wanted))
    printer = invocation.printer()
    with invocation.connect() as master:
        tenant = find_tenant(master, reference)
        wish = wish_for(tenant.guid, targets, reason, lifetime)
        for warning in warnings([one.listen for one in wanted]):
            tell(warning)
        announce = partial(_announce, printer, tenant)
        run(forward(master, wish, wanted, announce, any_user=any_user))


@click.command("socks", cls=Verb)
@tenant_argument
@click.option(
    "--listen",
    "place",
    default="1080",
    show_default=True,
    metavar="[ADDRESS:]PORT",
    help="Where, on a loopback address; port 0: any that is free.",
)
@any_user_option
@tunnel_options
@pass_invocation
def serve_socks(
    invocation: Invocation, reference: str, place: str, any_user: bool, reason: str, lifetime: str | None
) -> None:
    """Serve a SOCKS5 proxy on this machine into the network of TENANT, until Ctrl-C.

    Names are resolved at the Tenant (`curl --proxy socks5h://127.0.0.1:1080 http://intranet/`); its policy decides about
    each connection. On loopback alone, for yourself alone: the proxy asks nobody who they are. Stays up as `tunnel forward` does.
    """
    from tenantry.cli.references import find_tenant
    from tenantry.cli.troubles import InputInvalid
    from tenantry.cli.tunnels.running import run
    from tenantry.cli.tunnels.serving import proxy
    from tenantry.cli.tunnels.spelling import parse_listen

    where = parse_listen(place)
    if where.open_to_others:
        raise InputInvalid(
            f"the proxy does not listen at {where}: it lets everybody in who reaches it",
            "Listen on loopback; for others, `tunnel forward` opens single targets at an address of your choice.",
        )
    printer = invocation.printer()
    with invocation.connect() as master:
        tenant = find_tenant(master, reference)
        wish = wish_for(tenant.guid, (), reason, lifetime)
        announce = partial(_announce, printer, tenant)
        run(proxy(master, wish, where, announce, any_user=any_user))


@click.command("stdio", cls=Verb)
@tenant_argument
@click.argument("address", metavar="HOST:PORT")
@tunnel_options
@pass_invocation
def relay_stdio(invocation: Invocation, reference: str, address: str, reason: str, lifetime: str | None) -> None:
    """Connect stdin and stdout with HOST:PORT, seen from TENANT: for `ssh -o ProxyCommand`, scp, rsync and pipes.

    \b
    ssh -o ProxyCommand='tenantry tunnel stdio acme/main %h:%p' admin@db.internal

    Every byte passes as it is, and the end of each direction by itself. Ends when both have ended.
    """  # noqa: D301
    from tenantry.cli.tunnels.running import run
    from tenantry.cli.tunnels.standard_streams import relay_standard_streams
    from tenantry.protocol.tunnels.targets import parse_target

    target = parse_target(address)
    with invocation.connect() as master:
        guid = guid_of(master, reference)
        run(relay_standard_streams(master, wish_for(guid, (target,), reason, lifetime), target))


def guid_of(master: Master, reference: str) -> str:
    """The GUID that is meant; a whole GUID is taken as it is, which saves asking."""
    from tenantry.cli.references import find_tenant
    from tenantry.protocol.failures import FieldInvalid
    from tenantry.protocol.names import check_guid

    try:
        return check_guid(reference.lower())
    except FieldInvalid:
        return find_tenant(master, reference).guid


def _announce(printer: Printer, tenant: Tenant, listening: Listening) -> None:
    from tenantry.cli.tunnels.serving import describe

    target = listening.target
    plain = {
        "address": listening.at.address,
        "port": listening.at.port,
        "target": {"host": target.host, "port": target.port} if target else None,
        "tenant": tenant.guid,
        "tunnel": listening.tunnel_id,
    }
    printer.element(plain, lambda: describe(listening, f"{tenant.tenant_name}/{tenant.instance_name}"))
