"""A Master and a Tenant with tunnels, shared by the files of this folder; a target of many habits."""

import os
from collections.abc import Iterator

import pytest

from tests.servers.habits import Target, running_target
from tests.servers.master import MasterProcess, running_master
from tests.servers.tunnelling import ROOM, TunnelledTenant, tunnelled_tenant

LONG = os.environ.get("TENANTRY_FAULTS") == "long"


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that listens for tunnels."""
    with running_master(tmp_path_factory.mktemp("tunnels"), *ROOM) as running:
        yield running


@pytest.fixture(scope="module")
def tenant(master: MasterProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunnelledTenant]:
    """A Tenant whose policy allows loopback."""
    with tunnelled_tenant(master, tmp_path_factory.mktemp("tunnelled") / "tenant") as running:
        yield running


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A server whose connections behave as they are told."""
    with running_target() as running:
        yield running
