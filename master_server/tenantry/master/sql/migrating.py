"""Brings a store's schema up to this program's version.

Alembic is loaded for a store that has another schema only: loading it takes as long as everything else that opens a store.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Select, Text, column, inspect, select, table

from tenantry.master.sql.refusals import StoreNewer

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0001"
"""The revision of this program's schema: the newest of the migrations."""
_SCRIPTS: Final = Path(__file__).parent / "migrations"
_VERSION_TABLE: Final = "alembic_version"
_revisions: Final[Select[str]] = select(column("version_num", Text())).select_from(table(_VERSION_TABLE))


def migration_config(connection: Connection | None = None) -> "Config":
    """The settings of Alembic for our migrations, over this connection."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def present_revisions(connection: Connection) -> set[str]:
    """What the store says about its schema: the revision of the newest migration that it has; nothing where it is empty."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return set()
    return set(connection.execute(_revisions).scalars())


def check_known(present: set[str]) -> None:
    """Raises StoreNewer when there is a revision that this program does not know."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    if not present <= {script.revision for script in ScriptDirectory.from_config(migration_config()).walk_revisions()}:
        raise StoreNewer


def migrate(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction of the connection; the caller has the lease and commits.

    Raises StoreNewer when the store has revisions that this program does not know.
    """
    present = present_revisions(connection)
    if present == {HEAD}:
        return
    from alembic import command  # noqa: PLC0415

    check_known(present)
    command.upgrade(migration_config(connection), "head")


def revision_differs(connection: Connection) -> bool:
    """Whether the store has another schema than this program's."""
    return present_revisions(connection) != {HEAD}
