"""The program `tenantry`: all commands under one root, and how every run of it ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from tenantry.cli.commands.alert import alert
from tenantry.cli.commands.alert_work import WORK as ALERT_WORK
from tenantry.cli.commands.audit import audit
from tenantry.cli.commands.authority import ca
from tenantry.cli.commands.board import board
from tenantry.cli.commands.delivery import delivery
from tenantry.cli.commands.group import group
from tenantry.cli.commands.guidance import PROGRAM, completion, topics
from tenantry.cli.commands.licence_issuing import license_
from tenantry.cli.commands.login import login, logout
from tenantry.cli.commands.profile import profile
from tenantry.cli.commands.query import query
from tenantry.cli.commands.receiver import receiver
from tenantry.cli.commands.role import can_i, role, whoami
from tenantry.cli.commands.rule import rule
from tenantry.cli.commands.rule_copy import copy_rules, export_rules, import_rules
from tenantry.cli.commands.rule_testing import test_rule
from tenantry.cli.commands.status import status
from tenantry.cli.commands.stream import gaps, stream
from tenantry.cli.commands.tenant import tenant
from tenantry.cli.commands.tenant_copy import export_tenant, import_tenant
from tenantry.cli.commands.tenant_edit import edit_tenant
from tenantry.cli.commands.tenant_identity import rekey_tenant, resolve_quarantine
from tenantry.cli.commands.tenant_moves import commands as move_commands
from tenantry.cli.commands.tenant_watch import watch_tenants
from tenantry.cli.commands.token import token
from tenantry.cli.commands.tunnel import tunnel
from tenantry.cli.commands.tunnel_ends import forward_ports, relay_stdio, serve_socks
from tenantry.cli.commands.tunnel_programs import open_console, secure_shell
from tenantry.cli.commands.user import user
from tenantry.cli.commands.user_certificates import certificates_of, issue_certificate, revoke_certificate
from tenantry.cli.commands.user_security import second_factor, set_password
from tenantry.cli.commands.window import window
from tenantry.cli.diagnosis import EXIT_BROKEN_PIPE, diagnose, exit_code_lines, report
from tenantry.cli.invocation import Invocation, Noun, shared_options
from tenantry.protocol.failures import EXIT_BUG


class ReaderGone(Exception):
    """Nobody reads the output any more."""


class Program(Noun):
    """The root group. Whatever ends a run is explained on stderr and becomes the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises ReaderGone, which click does not take for a failure of its own."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - how a run ends is decided here, not by click
        **extra: Any,
    ) -> NoReturn:
        """Run and exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(arguments, prog_name or PROGRAM, complete_var, standalone_mode=False, **extra)
        except ReaderGone:
            # The interpreter must not complain either when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_BROKEN_PIPE)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost frame: whatever it is gets explained
            sys.exit(_explain(error, arguments))
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: BaseException, arguments: Sequence[str]) -> int:
    diagnosis = diagnose(error)
    if diagnosis.exit_code == EXIT_BUG and os.environ.get("TENANTRY_DEBUG"):
        traceback.print_exception(error)
    invocation = Invocation(no_color="--no-color" in arguments)
    report(
        diagnosis,
        as_json=_wants_json(arguments),
        colour=not invocation.no_color and not os.environ.get("NO_COLOR") and sys.stderr.isatty(),
    )
    return diagnosis.exit_code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether JSON was asked for; read from the words themselves, because they may be what is wrong."""
    joined = " ".join(arguments)
    return any(form in f"{joined} " for form in ("-o json ", "-ojson ", "--output json ", "--output=json "))


@click.command(
    cls=Program,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nExit codes (`tenantry help exit-codes` has the reasons):\n" + "\n".join(exit_code_lines()),
)
@click.version_option(package_name="tenantry", prog_name=PROGRAM)
def program() -> None:
    """Operate a Master and its Tenants.

    Begin with `tenantry login`. Every command takes --output, --profile, --timeout and --no-color.
    """


program.params.extend(shared_options())
commands: tuple[click.Command, ...] = (
    login,
    logout,
    profile,
    status,
    board,
    tenant,
    alert,
    window,
    rule,
    receiver,
    delivery,
    stream,
    query,
    gaps,
    audit,
    tunnel,
    secure_shell,
    open_console,
    ca,
    license_,
    user,
    group,
    role,
    token,
    whoami,
    can_i,
    completion,
    topics,
)
verbs: tuple[click.Command, ...] = (
    edit_tenant,
    export_tenant,
    import_tenant,
    *move_commands,
    rekey_tenant,
    resolve_quarantine,
    watch_tenants,
)
for command in commands:
    program.add_command(command)
for verb in verbs:
    tenant.add_command(verb)
for work in ALERT_WORK:
    alert.add_command(work)
for end in (forward_ports, relay_stdio, serve_socks):
    tunnel.add_command(end)
for copying in (export_rules, import_rules, copy_rules, test_rule):
    rule.add_command(copying)
for own in (set_password, second_factor, issue_certificate, certificates_of, revoke_certificate):
    user.add_command(own)
