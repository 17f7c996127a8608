"""The options that name a configuration, and how they become one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tenantry.master.config import MasterConfig, load

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The data folder [default: /var/lib/tenantry-master].",
)


def configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, --data and --set to a command, which gets their merged MasterConfig as its first argument.

    Options of the command itself whose names are settings (``api_listen``) go into the configuration as flags, and are
    not passed on.
    """

    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The configuration file [default: config.toml in the data folder].",
    )
    @DATA
    @click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting; may be repeated.")
    @functools.wraps(function)
    def command(config_file: Path | None, data: Path | None, assignments: tuple[str, ...], **options: Any) -> Any:
        flags = {name: options.pop(name) for name in list(options) if name in _AS_FLAGS}
        return function(read_configuration(config_file, data, assignments, flags), **options)

    return command


_AS_FLAGS = (
    "api_listen",
    "link_listen",
    "console_listen",
    "monitoring_listen",
    "public_hosts",
    "log_level",
    "dsn_file",
    "trust_domain",
)


def read_configuration(
    file: Path | None, data: Path | None, assignments: tuple[str, ...], flags: dict[str, Any]
) -> MasterConfig:
    """Merge what was given on the command line with the other sources.

    Flags that are None or empty were not given. Raises click.UsageError for an assignment without ``=``,
    ConfigurationInvalid.
    """
    given: dict[str, object] = {name: value for name, value in flags.items() if value is not None and value != ()}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            # Not shown: whoever forgot the key may have written a password.
            raise click.UsageError("--set needs KEY=VALUE")
        given[key.strip()] = value.strip()
    if data is not None:
        given["data_dir"] = str(data.absolute())
    return load(given, file=file)
