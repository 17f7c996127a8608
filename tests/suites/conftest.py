"""The same promises on both databases: every test of the suite gets a store on SQLite and one on PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from tenantry.master.domain.tenants import Tenant
from tenantry.master.sql.counters import read_counter, write_counter
from tenantry.master.sql.database import Database
from tenantry.master.sql.engines import make_engine, parse_dsn
from tenantry.master.sql.tables import metadata
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.sql.wall import INSIDE
from tenantry.protocol.messages import Configuration
from tests.servers.postgres import make_database
from tests.servers.stores import empty_store

NOW = 1_700_000_000_000

Register = Callable[..., Tenant]


@pytest.fixture(scope="session")
def emptied_postgres(postgres_dsn: str) -> str:
    """A database on PostgreSQL that each test finds empty: making one for each would take most of the time."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        return make_database(connection, postgres_dsn, "suites")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store without data that nobody has open."""
    if request.param == "sqlite":
        return empty_store(tmp_path)
    found = str(request.getfixturevalue("emptied_postgres"))
    engine = make_engine(parse_dsn(found))
    with engine.execution_options(**INSIDE).begin() as connection:
        # Deleting a few rows is many times faster than TRUNCATE, which makes and syncs new files.
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
        if sqlalchemy.inspect(connection).has_table("tenants"):
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
                write_counter(connection, table, read_counter(connection, table) and 1)
    engine.dispose()
    return found


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """An open store."""
    with Database.open(dsn) as opened:
        yield opened


@pytest.fixture
def register(database: Database) -> Register:
    """Registers a Tenant whose GUID is made from a number."""

    def insert(number: int, **values: object) -> Tenant:
        with database.write() as transaction:
            return transaction.tenants.insert(new_tenant(number, **values))

    return insert


def new_tenant(number: int, **values: object) -> NewTenant:
    """A Tenant to register whose GUID and names are made from a number."""
    facts: dict[str, object] = {
        "guid": f"00000000-0000-4000-8000-{number:012x}",
        "tenant_name": f"tenant {number}",
        "instance_name": "one",
        "description": "",
        "tags": (),
        "recipients": (),
        "configuration": Configuration(),
        "created_ms": NOW + number,
    }
    return NewTenant(**{**facts, **values})  # type: ignore[arg-type]
