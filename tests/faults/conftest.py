"""What all faults share: the long and the short form, and chance that can be replayed."""

import os
import random
import secrets

import pytest

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


def pytest_report_header() -> str:
    """Say the seed, so that a failure can be replayed."""
    return f"faults: TENANTRY_SEED={SEED}"
