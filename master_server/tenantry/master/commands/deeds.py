"""Writing into the audit what a command does whether or not the Master runs."""

import time
from typing import TYPE_CHECKING

import click

from tenantry.master.config import MasterConfig

if TYPE_CHECKING:
    from tenantry.master.domain.records import JsonValue

_PATIENCE_S = 10.0
_LOOK_S = 0.05


def write_down(config: MasterConfig, action: str, **facts: "JsonValue") -> None:
    """Put a deed into the audit before it is done: at once where no Master runs, else by the one that runs.

    A store that another version has written is left as it is: what is done beside it is written down at the next start. Raises
    CommandRefused, StoreRefused, FileExposed, OSError.
    """
    from tenantry.master.commands.stores import beside_master
    from tenantry.master.commands.tokens import local_actor
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.operations.local_deeds import DeedFolder
    from tenantry.master.sql.migrating import revision_differs

    with beside_master(config) as looked:
        current = not revision_differs(looked.connection)
    runs = config.endpoints_file.exists()
    if current and not runs and _write(config, action, facts):
        return
    notes, now = DeedFolder(config.data_dir), wall_ms()
    number = notes.leave(local_actor().name.removeprefix("local:"), action, now, facts)
    deadline = time.monotonic() + (_PATIENCE_S if runs else 0)
    while (left := notes.is_left(number)) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)  # there is no event between the two processes but the file that goes
    if (
        left and current and runs and _write(config, action, facts)
    ):  # the Master was killed, and nobody has taken the note
        notes.remove([number])
    elif left:
        click.echo("this is written into the audit when a Master of this version runs", err=True)


def _write(config: MasterConfig, action: str, facts: "dict[str, JsonValue]") -> bool:
    """Write the record here; False where somebody else has the store."""
    from tenantry.master.commands.stores import stopped_master
    from tenantry.master.commands.tokens import audited
    from tenantry.master.operations.clocks import wall_ms
    from tenantry.master.sql.refusals import StoreInUse

    try:
        with stopped_master(config) as database, database.write() as transaction:
            transaction.records.append([audited(action, wall_ms(), **facts)])
    except StoreInUse:
        return False
    return True
