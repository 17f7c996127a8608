"""Fetching a root by its fingerprint, and naming what is in the way."""

import socket
from collections.abc import Iterator

import pytest

from tenantry.transport.pinning import (
    EndpointUnreachable,
    Obstacle,
    examine_endpoint,
    fetch_root,
    fingerprint_of,
)
from tests.cli.certificates import make_identity
from tests.cli.fake_master import FakeMaster
from tests.servers.deadlines import PATIENCE_S
from tests.servers.ports import steady_port

NAME = "api.tenantry.internal"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_root_with_the_fingerprint_is_fetched(master: FakeMaster) -> None:
    """It is the same certificate, whatever the server's name, and no request is made."""
    root = fetch_root("127.0.0.1", master.port, NAME, master.identity.fingerprint, PATIENCE_S)
    assert root == master.identity.root
    assert fingerprint_of(root) == master.identity.fingerprint
    examine_endpoint("127.0.0.1", master.port, NAME, root, PATIENCE_S)
    assert master.requests == []


@pytest.mark.parametrize("fingerprint", ["00" * 32, make_identity().fingerprint], ids=["of nothing", "of another"])
def test_another_fingerprint_is_a_mismatch(master: FakeMaster, fingerprint: str) -> None:
    """Nothing but the pinned certificate is handed out."""
    with pytest.raises(EndpointUnreachable) as caught:
        fetch_root("127.0.0.1", master.port, NAME, fingerprint, PATIENCE_S)
    assert caught.value.obstacle is Obstacle.PIN_MISMATCH


def test_a_foreign_root_does_not_verify(master: FakeMaster) -> None:
    """A server that another authority certified is told apart from one with another name."""
    with pytest.raises(EndpointUnreachable) as caught:
        examine_endpoint("127.0.0.1", master.port, NAME, make_identity().root, PATIENCE_S)
    assert caught.value.obstacle is Obstacle.UNTRUSTED
    with pytest.raises(EndpointUnreachable) as caught:
        examine_endpoint("127.0.0.1", master.port, "link.tenantry.internal", master.identity.root, PATIENCE_S)
    assert caught.value.obstacle is Obstacle.WRONG_NAME


def test_obstacles_on_the_way_have_names(silent_port: int) -> None:
    """Both functions name the same step that failed."""
    for host, port, expected in (
        ("127.0.0.1", steady_port(), {Obstacle.CONNECTION_REFUSED}),
        ("127.0.0.1", silent_port, {Obstacle.TIMED_OUT}),
        ("master.invalid", 7443, {Obstacle.NAME_NOT_RESOLVED}),
        ("a" * 70 + ".example", 7443, {Obstacle.NAME_NOT_RESOLVED}),
    ):
        with pytest.raises(EndpointUnreachable) as fetching:
            fetch_root(host, port, NAME, "00" * 32, 0.3)
        with pytest.raises(EndpointUnreachable) as examining:
            examine_endpoint(host, port, NAME, make_identity().root, 0.3)
        assert {fetching.value.obstacle, examining.value.obstacle} == expected
        assert host in str(examining.value)
