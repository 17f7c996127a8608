"""Brings a store's schema up to this program's version."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tenantry.master.sql.refusals import StoreNewer

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def migration_config(connection: Connection | None = None) -> Config:
    """The settings of Alembic for our migrations, over this connection."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def migrate(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction of the connection; the caller has the lease and commits.

    Raises StoreNewer when the store has revisions that this program does not know.
    """
    config = migration_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if not _present(connection) <= known:
        raise StoreNewer
    command.upgrade(config, "head")


def revision_differs(connection: Connection) -> bool:
    """Whether the store has another schema than this program's."""
    return _present(connection) != set(ScriptDirectory.from_config(migration_config()).get_heads())


def _present(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())
