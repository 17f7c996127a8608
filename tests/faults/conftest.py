"""What all faults share: the long and the short form, and chance that can be replayed."""

import os
import random
import secrets
from collections.abc import Iterator

import pytest

from tests.servers.master import MasterProcess, running_master

SEED = os.environ.get("TENANTRY_SEED") or secrets.token_hex(4)


@pytest.fixture(scope="session")
def long_form() -> bool:
    """Whether `make faults` runs, and not `make test`."""
    return os.environ.get("TENANTRY_FAULTS") == "long"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Chance of this test. TENANTRY_SEED=… draws the same again."""
    print(f"TENANTRY_SEED={SEED}")
    return random.Random(f"{SEED}:{request.node.name}")


@pytest.fixture(scope="session")
def steady_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """One Master for all faults that happen elsewhere: on the way to it, or to Tenants of their own."""
    with running_master(tmp_path_factory.mktemp("steady"), "heartbeat_interval=1s", "reconnect_spread=0s") as running:
        yield running


def pytest_report_header() -> str:
    """Say the seed, so that a failure can be replayed."""
    return f"faults: TENANTRY_SEED={SEED}"
