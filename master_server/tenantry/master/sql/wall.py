"""The second wall between Tenants, on PostgreSQL: row-level security that admits what the transaction has said it may see.

Each transaction says so in `SETTING`, which ends with it: everything, the owners that a viewer sees, or nothing. What says nothing
sees nothing. The policies are made by the migration; SQLite has none of this, there the stores' own filters are the one wall.
"""

from typing import Any, Final

from sqlalchemy import Connection

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Sight

SETTING: Final = "tenantry.tenants"
_EVERYTHING: Final = "all"
_SIGHT: Final = "tenantry_sight"
_SNAPSHOT: Final = "tenantry_snapshot"
_BEGIN: Final = "BEGIN{mode}; SET LOCAL {setting} = '{value}'"

SNAPSHOT: Final[dict[str, Any]] = {_SNAPSHOT: True}
"""Execution options of a transaction that sees one state of the store and changes nothing."""


def _written(sight: Sight) -> str:
    """The owners, as an array of PostgreSQL: numbers alone."""
    if sight.tenant_ids is None:
        if not sight.main:
            raise ValueError("all Tenants without the main tenant is no sight")
        return _EVERYTHING
    owners = sorted(map(int, sight.tenant_ids)) + [MAIN_OWNER] * sight.main
    return f"{{{','.join(map(str, owners))}}}"


def seeing(sight: Sight) -> dict[str, Any]:
    """Execution options of a connection whose transactions see this. Without them they see nothing that has an owner."""
    return {_SIGHT: _written(sight)}


INSIDE: Final[dict[str, Any]] = seeing(EVERYTHING)
"""Execution options of the Master's own work, which nobody else sees as it is."""


def begin(connection: Connection) -> None:
    """Begin a transaction on PostgreSQL and say what it sees, in one journey to the server.

    The driver would begin by itself with a journey of its own, before the first statement.
    """
    options = connection.get_execution_options()
    mode = " ISOLATION LEVEL REPEATABLE READ READ ONLY" if options.get(_SNAPSHOT) else ""
    statements = _BEGIN.format(mode=mode, setting=SETTING, value=options.get(_SIGHT, ""))
    driver: Any = connection.connection.dbapi_connection
    if driver.closed or driver.pgconn.exec_(statements.encode()).error_message:
        connection.exec_driver_sql("SELECT 1")  # fails as well, with an error of the kind that all others have


def is_held(connection: Connection) -> bool:
    """Whether row-level security binds the role of this connection to PostgreSQL: superusers and some others pass through it."""
    asked = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    return not connection.exec_driver_sql(asked).scalar_one()
