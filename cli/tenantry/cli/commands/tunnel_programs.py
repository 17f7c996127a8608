"""ssh, console: programs of this machine at the other end of a tunnel."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.choices import tenant_argument
from tenantry.cli.commands.tunnel_ends import guid_of, tunnel_options, wish_for
from tenantry.cli.invocation import Invocation, Verb, pass_invocation

if TYPE_CHECKING:
    from tenantry.cli.tunnels.serving import Listening

_REST = "tenantry.cli.rest"


class _BeforeAnotherProgram(Verb):
    """A command whose words behind `--` are another program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep them apart: click would forget where they began."""
        own, rest = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        ctx.meta[_REST] = rest
        return super().parse_args(ctx, own)


@click.command("ssh", cls=_BeforeAnotherProgram, options_metavar="[OPTIONS]")
@tenant_argument
@click.argument("place", metavar="[[USER@]HOST[:PORT]] [-- SSH-ARGUMENTS...]", required=False, default="")
@tunnel_options
@pass_invocation
@click.pass_context
def secure_shell(
    context: click.Context, invocation: Invocation, reference: str, place: str, reason: str, lifetime: str | None
) -> None:
    """Run this machine's ssh to a host at TENANT, through a tunnel. Without a host: to the Tenant's own machine.

    \b
    tenantry ssh acme/main                            the Tenant's machine, as ssh would call you
    tenantry ssh acme/main admin@                     the same as admin
    tenantry ssh acme/main admin@db.internal:2222     a machine in its network
    tenantry ssh acme/main db.internal -- -L 8080:localhost:80 uptime

    Everything behind `--` goes to ssh as it is, after the host. Known hosts are kept per Tenant. Ends with the exit code of ssh.
    """  # noqa: D301
    from tenantry.cli.troubles import ProgramMissing
    from tenantry.cli.tunnels.secure_shell import parse_destination, ssh_command

    destination = parse_destination(place)
    wish_for("", (), reason, lifetime)  # what is wrong is said here, not by the ProxyCommand
    program = shutil.which("ssh")
    if program is None:
        raise ProgramMissing("there is no ssh on this machine", "Install OpenSSH's client.")
    with invocation.connect() as master:
        guid = guid_of(master, reference)
    # Not from the present folder (-P): whoever can write there must not decide what this program does.
    proxy = [sys.executable, "-P", "-m", "tenantry.cli", "tunnel", "stdio", *_choices(invocation, reason, lifetime)]
    os.execv(program, ssh_command(program, proxy, guid, destination, context.meta[_REST]))  # noqa: S606


@click.command("console", cls=Verb)
@tenant_argument
@click.option("--listen", "place", default="0", metavar="PORT", help="Where, on loopback.  [default: any free port]")
@click.option(
    "--no-browser", is_flag=True, help="Print the link, which lets one browser in, once, instead of opening it."
)
@tunnel_options
@pass_invocation
def open_console(
    invocation: Invocation, reference: str, place: str, no_browser: bool, reason: str, lifetime: str | None
) -> None:
    """Open the local console of TENANT in this machine's browser, through a tunnel that stays until Ctrl-C."""
    from tenantry.cli.references import find_tenant
    from tenantry.cli.tenant_view import one_line
    from tenantry.cli.troubles import InputInvalid
    from tenantry.cli.tunnels.browsing import can_open_browser, open_browser
    from tenantry.cli.tunnels.running import run
    from tenantry.cli.tunnels.serving import forward
    from tenantry.cli.tunnels.spelling import Forward, parse_listen
    from tenantry.protocol.tunnels.targets import CONSOLE, Target

    where = parse_listen(place)
    if where.open_to_others:
        raise InputInvalid(f"a console is not shown to others: {where}", "Listen on loopback.")
    printer = invocation.printer()
    target = Target(CONSOLE, 0)
    with invocation.connect() as master:
        tenant = find_tenant(master, reference)
        wish = wish_for(tenant.guid, (target,), reason, lifetime)

        def announce(listening: Listening) -> None:
            address = f"http://{listening.at}"
            link = address + listening.console_path
            opening = printer.for_people and not no_browser and can_open_browser()
            printer.element(
                {"url": link, "tenant": tenant.guid, "tunnel": listening.tunnel_id},
                lambda: f"{one_line(tenant)}: {address if opening else link}",
            )
            if opening:
                open_browser(link)

        run(forward(master, wish, [Forward(where, target)], announce))


def _choices(invocation: Invocation, reason: str, lifetime: str | None) -> list[str]:
    """What was chosen here, for the program that ssh runs."""
    words = [f"--timeout={invocation.timeout:g}"]
    words += [f"--profile={invocation.profile}"] if invocation.profile else []
    words += [f"--reason={reason}"] if reason else []
    return words + ([f"--for={lifetime}"] if lifetime else [])
