"""Stores with three Tenants, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.master.sql.database import Database
from tests.master.operations.stored_metrics import register_tenants
from tests.servers.stores import empty_store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An open store on SQLite with Tenants 1 to 3 and two layouts."""
    with Database.open(empty_store(tmp_path)) as opened:
        register_tenants(opened)
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """The same on SQLite and on PostgreSQL, for what depends on the store."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    dsn = str(request.getfixturevalue("postgres_database")).replace("+psycopg", "")
    with Database.open(dsn) as opened:
        register_tenants(opened)
        yield opened
