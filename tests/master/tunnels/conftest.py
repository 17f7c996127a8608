"""One Master for all these tests; each makes Tenants of its own."""

from collections.abc import Iterator

import pytest

from tests.servers.master import MasterProcess, running_master


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that does nothing by itself."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h")
    with running_master(tmp_path_factory.mktemp("tunnels"), *quiet) as running:
        yield running
