"""Stores with three Tenants, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.master.sql.database import Database
from tests.master.operations.stored_metrics import register_tenants


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An open store with Tenants 1 to 3 and two layouts."""
    if request.param == "sqlite":
        dsn = f"sqlite:///{tmp_path}/master.db"
    else:
        dsn = str(request.getfixturevalue("postgres_database")).replace("+psycopg", "")
    with Database.open(dsn) as opened:
        register_tenants(opened)
        yield opened
