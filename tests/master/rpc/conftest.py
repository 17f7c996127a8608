"""One Master for all these tests: each makes Tenants of its own, and those that need other settings start another."""

import os
from collections.abc import Iterator

import pytest

from tests.servers.master import MasterProcess, running_master

LONG = os.environ.get("TENANTRY_FAULTS") == "long"


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master on SQLite that does nothing by itself: it neither compacts, nor misses the Tenants of tests that are over."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h")
    with running_master(tmp_path_factory.mktemp("identity"), *quiet, quick=True) as running:
        yield running


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often a race is tried: 3 times, or 100 in the long form."""
    return 100 if LONG else 3
