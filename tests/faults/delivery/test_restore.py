"""F18: the Master comes back from a backup, and its Tenants remember more than it does."""

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tenantry.v1 import link_service_pb2, link_service_pb2_grpc
from tests.servers.daemon import GENTLY, NumberedDaemon, running_daemon
from tests.servers.master import PROGRAM, STOP_S, MasterProcess, running_master
from tests.servers.operating import read_gaps, read_records
from tests.servers.wire_tenant import Identity, WireTenant, enrolled, key_pem, make_key, make_request, open_link

pytestmark = pytest.mark.slow

COMMAND_S = 90
NO_TAIL = {"TENANTRY_DAEMON_SPOOL_TAIL": "0"}


async def command(*arguments: str | Path) -> None:
    """A command of the Master that must succeed."""
    done = await asyncio.to_thread(
        subprocess.run, [str(PROGRAM), *map(str, arguments)], capture_output=True, timeout=COMMAND_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


async def renewed(master: MasterProcess, identity: Identity) -> Identity:
    """A new certificate for an identity."""
    private = make_key()
    async with master.link_channel(identity.key, identity.chain) as channel:
        stub = link_service_pb2_grpc.LinkServiceStub(channel)
        answer = await stub.RenewCertificate(
            link_service_pb2.RenewCertificateRequest(certificate_request=make_request(private))
        )
    return Identity(identity.guid, key_pem(private), answer.certificate_chain.encode())


async def go_back(master: MasterProcess, backup: Path, daemons: tuple[NumberedDaemon, ...]) -> None:
    """The Master dies with its disk; the backup takes its place."""
    master.kill()
    shutil.move(master.data, master.data.with_name("lost"))
    await command("restore", backup, "--data", master.data)
    for daemon in daemons:
        with daemon.history_file.open("a") as history:
            history.write('["restored"]\n')
    await asyncio.to_thread(master.start)


async def test_f18_a_master_from_an_older_backup_gets_back_what_its_tenants_still_hold(tmp_path: Path) -> None:
    """One daemon has its replay tail and sends all of it again; one has none, and the ledger says what is gone for good."""
    backup = tmp_path / "backup"
    with running_master(tmp_path, "heartbeat_interval=1s", "reconnect_spread=0s") as master:
        async with (
            running_daemon(master, tmp_path, "keeps", GENTLY) as keeps,
            running_daemon(master, tmp_path, "forgets", GENTLY, environment=NO_TAIL) as forgets,
        ):
            wire = WireTenant(await enrolled(master, "renews"))
            async with open_link(master, wire.identity) as link:
                await link.open(wire)
            await asyncio.gather(keeps.acknowledged(3), forgets.acknowledged(3))
            await command("backup", backup, "--data", master.data)
            await asyncio.gather(keeps.acknowledged(10), forgets.acknowledged(10))
            # What is acknowledged is erased now and then, and first of all after a start.
            forgets.kill()
            forgets.start()
            await forgets.acknowledged(3)
            wire.identity = await renewed(master, wire.identity)
            await go_back(master, backup, (keeps, forgets))
            await asyncio.gather(keeps.acknowledged(3), forgets.acknowledged(3))
            assert (await keeps.checked(master)).declared == 0
            assert (await forgets.checked(master)).declared > 0
            reasons = {gap.reason for gap in await read_gaps(master, forgets.guid)}
            assert reasons == {link_service_pb2.LOSS_REASON_REPLAY_GONE}
            async with open_link(master, wire.identity) as link:
                await link.open(wire)
            told = [str(one.fields["text"]) for one in await read_records(master, "notifications", wire.identity.guid)]
            assert any("issued after the backup" in text for text in told)


async def test_a_master_that_stops_in_peace_is_found_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """SIGTERM in the middle of the traffic: a Goodbye, a new start, and each record once."""
    with running_master(tmp_path, "heartbeat_interval=1s", "reconnect_spread=1s") as master:
        async with running_daemon(master, tmp_path, "one") as daemon:
            await daemon.acknowledged(5)
            master.signal(signal.SIGTERM)
            assert master.process is not None
            assert await asyncio.to_thread(master.process.wait, STOP_S) == 0
            await asyncio.to_thread(master.start)
            await daemon.acknowledged(5)
            await daemon.checked(master, most_links=3)
