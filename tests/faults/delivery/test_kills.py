"""F1 to F6: programs that die at any moment, and at the worst ones. Nothing is lost, nothing is doubled."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.delivery.deaths import die_and_recover, kill_rounds
from tests.servers.daemon import running_daemon
from tests.servers.history import check_delivery
from tests.servers.master import MasterProcess, running_master


@pytest.fixture(scope="module")
def mortal_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that dies, often."""
    with running_master(tmp_path_factory.mktemp("mortal"), "heartbeat_interval=1s", "reconnect_spread=0s") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["master", "daemons", "both"])
async def test_kill_9_at_random_moments(
    mortal_master: MasterProcess, tmp_path: Path, chance: random.Random, long_form: bool, victim: str
) -> None:
    """F1, F2, F3: the Master, the daemons, or both are killed in a loop, while two Tenants send as fast as they can."""
    async with (
        running_daemon(mortal_master, tmp_path, "one", f"--seed={chance.random()}") as one,
        running_daemon(mortal_master, tmp_path, "two", f"--seed={chance.random()}") as two,
    ):
        kills = await kill_rounds(mortal_master, (one, two), victim, chance, 100 if long_form else 2)
        for daemon in (one, two):
            # A kill may hit a link that has just been opened again, and each start opens one.
            delivered = await daemon.checked(mortal_master, most_links=kills + daemon.starts + 1)
            assert delivered.declared == 0


# Where a program dies, and at which hit: late enough that data has flowed.
WORST_MOMENTS = {
    "F4: the Master dies after COMMIT and before the ack": ("master", "ingest.after_commit", 15),
    "F5: the Master dies before COMMIT": ("master", "ingest.before_commit", 15),
    "F6: the daemon dies after the ack and before the delete": ("daemon", "link.after_ack_before_delete", 5),
    "the daemon dies before its spool commits": ("daemon", "spool.before_commit", 15),
    "the daemon dies after its spool has committed": ("daemon", "spool.after_commit", 15),
    "the daemon dies before Begin": ("daemon", "link.before_begin", 1),
}


@pytest.mark.parametrize(("program", "point", "hit"), WORST_MOMENTS.values(), ids=WORST_MOMENTS)
async def test_death_at_the_worst_moment(
    mortal_master: MasterProcess, tmp_path: Path, chance: random.Random, program: str, point: str, hit: int
) -> None:
    """F4, F5, F6 and their like: what was under way there is stored once, after the next start."""
    await die_and_recover(mortal_master, tmp_path, chance, program, point, hit)


async def test_a_store_that_fails_now_and_then_delays_and_loses_nothing(
    mortal_master: MasterProcess, tmp_path: Path
) -> None:
    """A commit that fails is not acknowledged; one that fails after it was durable is not stored again."""
    failing = {
        "TENANTRY_TEST_BUILD": "1",
        "TENANTRY_FAILPOINTS": "ingest.before_commit=raise@5,ingest.after_commit=raise@12",
    }
    async with running_daemon(mortal_master, tmp_path, "one") as daemon:
        mortal_master.kill()
        mortal_master.environment = failing
        before = mortal_master.log.count("commit failed")
        try:
            await asyncio.to_thread(mortal_master.start)
            await daemon.acknowledged(70)
            await daemon.drained()
            assert mortal_master.log.count("commit failed") - before == 2
        finally:
            mortal_master.environment = {}
        await check_delivery(mortal_master, daemon.guid, daemon.history_file, most_links=3)
