"""The museum of bugs: each is planted into the real programs, and the check of the real fault must fail.

`synchronous` off under the simulated power cut hangs in tests/faults/power_cut.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.delivery.deaths import die_and_recover, kill_rounds
from tests.faults.delivery.late_writes import SLOW_COMMITS, check_late_writes
from tests.faults.disk.spools import damage_and_recover, delete
from tests.faults.museum.delivery.bugs import planted
from tests.faults.network.ports import check_port_is_not_shared
from tests.faults.network.silence import frozen_daemon
from tests.servers.daemon import running_daemon
from tests.servers.deadlines import TooLate
from tests.servers.history import NoProgress, PromiseBroken
from tests.servers.master import MasterProcess, running_master

pytestmark = pytest.mark.slow

F5 = ("master", "ingest.before_commit", 40)
SOONER = ("master", "ingest.before_commit", 16)
"""The same where the bug makes each commit slow."""


@pytest.fixture(scope="module")
def sick_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that gets one bug after the other."""
    with running_master(tmp_path_factory.mktemp("sick"), "heartbeat_interval=1s", "reconnect_spread=0s") as running:
        yield running


@contextlib.asynccontextmanager
async def infected(master: MasterProcess, environment: dict[str, str]) -> AsyncIterator[None]:
    """The Master with a bug, and healthy again afterwards."""
    for variables in (environment, {}):
        master.kill()
        master.environment = variables
        await asyncio.to_thread(master.start)
        if variables:
            try:
                yield
            except BaseException:
                master.kill()
                master.environment = {}
                await asyncio.to_thread(master.start)
                raise


async def test_ack_before_commit_is_caught(sick_master: MasterProcess, tmp_path: Path, chance: random.Random) -> None:
    """F5 sees an acknowledgement of what the Master does not have: after its death, or when it is asked at once."""
    async with infected(sick_master, planted("ack_before_commit")):
        with pytest.raises(PromiseBroken, match=r"was acknowledged up to|are lost"):
            await die_and_recover(sick_master, tmp_path, chance, *SOONER)


async def test_delete_on_write_is_caught(sick_master: MasterProcess, tmp_path: Path, chance: random.Random) -> None:
    """F5 misses what was written to the stream and never stored."""
    with pytest.raises(PromiseBroken, match="given up without need"):
        await die_and_recover(sick_master, tmp_path, chance, *F5, environment=planted("delete_on_write"))


async def test_a_spool_without_an_epoch_is_caught(sick_master: MasterProcess, tmp_path: Path) -> None:
    """F20 never gets through: a new spool looks like an old one that was set back."""
    with pytest.raises(NoProgress, match="TENANT_QUARANTINED"):
        await damage_and_recover(sick_master, tmp_path, delete, environment=planted("no_epoch"))


async def test_deduplication_off_is_caught(sick_master: MasterProcess, tmp_path: Path, chance: random.Random) -> None:
    """F2 finds records stored more than once. The resume is off as well: it is a net of its own, and would hide it."""
    async with (
        infected(sick_master, planted("deduplication_off")),
        running_daemon(sick_master, tmp_path, "one", environment=planted("resume_off")) as daemon,
    ):
        await kill_rounds(sick_master, (daemon,), "daemons", chance, 1)
        await daemon.acknowledged(3)
        with pytest.raises(PromiseBroken, match="stored more than once"):
            await daemon.checked(sick_master)


async def test_deduplication_is_a_net_of_its_own(
    sick_master: MasterProcess, tmp_path: Path, chance: random.Random
) -> None:
    """With the resume off and deduplication on, everything is sent again and still stored once."""
    async with running_daemon(sick_master, tmp_path, "one", environment=planted("resume_off")) as daemon:
        await kill_rounds(sick_master, (daemon,), "daemons", chance, 1)
        await daemon.acknowledged(3)
        await daemon.checked(sick_master)


async def test_a_hole_that_is_not_declared_is_caught(sick_master: MasterProcess, tmp_path: Path) -> None:
    """F20 looks for the lost records in the ledger."""
    async with infected(sick_master, planted("hole_not_declared")):
        with pytest.raises(PromiseBroken, match="are lost"):
            await damage_and_recover(sick_master, tmp_path, delete)


async def test_a_missing_fence_is_caught(sick_master: MasterProcess, chance: random.Random) -> None:
    """F10 sees more stored than the newer link was told."""
    async with infected(sick_master, {**planted("no_fence"), **SLOW_COMMITS}):
        with pytest.raises(AssertionError, match="the older one wrote on"):
            await check_late_writes(sick_master, chance, 20)


async def test_a_missing_ping_timeout_is_caught(tmp_path: Path) -> None:
    """F11 waits in vain for the end of a frozen daemon's link."""
    with pytest.raises(TooLate, match="the end of the link"):
        await frozen_daemon(tmp_path, planted("ping_timeout_removed"), alert=False)


def test_a_shared_port_is_caught(tmp_path: Path) -> None:
    """F45 sees two Masters on one port. The look at the ports before the start is off as well: it would hide it."""
    with pytest.raises(AssertionError, match="two Masters share a port"):
        check_port_is_not_shared(tmp_path, planted("port_shared", "port_not_tried"))


def test_the_setting_of_the_listeners_is_a_net_of_its_own(tmp_path: Path) -> None:
    """Without the look at the ports the second Master is refused all the same."""
    check_port_is_not_shared(tmp_path, planted("port_not_tried"))
