"""What every command shares: which Master, which form of output, how long to wait; and the options for it.

The options stand on the program and on each command alike, so that they can be written before or after the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Printer

Format = Literal["table", "json", "yaml"]


@dataclass(slots=True)
class Invocation:
    """The shared options as they were typed."""

    profile: str | None = None
    output: Format = "table"
    no_color: bool = False
    timeout: float = 15.0

    @property
    def colour(self) -> bool:
        """Whether stdout may be coloured."""
        return not self.no_color and not os.environ.get("NO_COLOR") and sys.stdout.isatty()

    def connect(self) -> Master:
        """Open the conversation with the chosen Master. Raises Trouble when none is chosen."""
        from tenantry.cli.profiles import choose_profile

        profile = choose_profile(self.profile)
        from tenantry.cli.connection import Master

        return Master(profile, self.timeout)

    def printer(self) -> Printer:
        """Where results go."""
        from tenantry.cli.output import Printer

        return Printer(self.output, colour=self.colour)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value is not None and value is not False:
        setattr(context.ensure_object(Invocation), str(parameter.name), value)


def _complete_profiles(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from tenantry.cli.profiles import profile_names

    return profile_names(incomplete)


def shared_options() -> list[click.Option]:
    """The options that every command takes."""
    common: Mapping[str, Any] = {"callback": _remember, "expose_value": False}
    return [
        click.Option(
            ["--profile"],
            help="Which Master, by the name of its profile.",
            metavar="NAME",
            shell_complete=_complete_profiles,
            **common,
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(get_args(Format)),
            help="Form of the result.  [default: table]",
            **common,
        ),
        click.Option(["--no-color"], is_flag=True, help="No colours (as with NO_COLOR set).", **common),
        click.Option(
            ["--timeout"],
            type=click.FloatRange(min=0.1, max=3600),
            metavar="SECONDS",
            help="Time limit of each call.  [default: 15]",
            **common,
        ),
    ]


class Verb(click.Command):
    """A command with the shared options after its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(shared_options())


class Noun(click.Group):
    """A group of commands."""

    command_class = Verb
    group_class = type
