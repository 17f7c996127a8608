"""F45: two Masters never share a port or a store; the second one says why it does not start, and the first goes on."""

import os
import socket
from pathlib import Path

import pytest

from tests.faults.identity.doubling import start_beside
from tests.servers.master import MasterProcess, ProgramFailed, initialise, running_master
from tests.servers.wire_tenant import create_tenant

LONG = os.environ.get("TENANTRY_FAULTS") == "long"


@pytest.mark.parametrize("listener", ["api", "link"] if LONG else ["link"])
async def test_f45_a_second_master_on_the_same_port_does_not_start(
    master: MasterProcess, tmp_path: Path, listener: str
) -> None:
    """With a store of its own, but the address of a listener that is taken."""
    said = start_beside(master, tmp_path, listener)
    assert f"{listener}_listen" in said and "in use" in said
    await create_tenant(master, f"beside a second {listener}")


async def test_f45_a_second_master_on_the_same_data_does_not_start(master: MasterProcess) -> None:
    """The same folder, hence the same database file; other ports."""
    second = MasterProcess(master.data, master.token)
    endpoints = (master.data / "run" / "endpoints.json").read_bytes()
    try:
        with pytest.raises(ProgramFailed) as failed:
            second.start()
    finally:
        second.kill()
        (master.data / "run" / "endpoints.json").write_bytes(endpoints)
    assert "another Master" in str(failed.value)
    await create_tenant(master, "beside a second data folder")


@pytest.mark.postgres
async def test_f45_a_second_master_on_the_same_postgresql_database_does_not_start(
    postgres_database: str, tmp_path: Path
) -> None:
    """Another folder and other ports, but the same database: the lease is the first one's until it ends."""
    file = tmp_path / "dsn"
    file.touch(0o600)
    file.write_text(postgres_database)
    with running_master(tmp_path, arguments=("--dsn-file", str(file))) as first:
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ProgramFailed, match="another Master"):
            initialise(other / "master", "--dsn-file", str(file))
        await create_tenant(first, "beside a second database")


def test_the_ports_of_a_master_are_not_shared_with_anybody(master: MasterProcess) -> None:
    """A socket that offers to share the port does not get it."""
    for address in (master.api_address, master.link_address):
        host, _, port = address.rpartition(":")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind((host, int(port)))
