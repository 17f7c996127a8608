"""F1 to F6: programs that die at any moment, and at the worst ones. Nothing is lost, nothing is doubled."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.delivery.deaths import die_and_recover, kill_rounds
from tests.servers.daemon import running_daemon
from tests.servers.master import running_master

FAST = ("heartbeat_interval=1s", "reconnect_spread=0s")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["master", "daemons", "both"])
async def test_kill_9_at_random_moments(tmp_path: Path, chance: random.Random, long_form: bool, victim: str) -> None:
    """F1, F2, F3: the Master, the daemons, or both are killed in a loop, while two Tenants send as fast as they can."""
    with running_master(tmp_path, *FAST) as master:
        async with (
            running_daemon(master, tmp_path, "one", f"--seed={chance.random()}") as one,
            running_daemon(master, tmp_path, "two", f"--seed={chance.random()}") as two,
        ):
            kills = await kill_rounds(master, (one, two), victim, chance, 100 if long_form else 3)
            for daemon in (one, two):
                # A kill may hit a link that has just been opened again, and each start opens one.
                await daemon.checked(master, most_links=kills + daemon.starts + 1)


# Where a program dies, and at which hit: late enough that data has flowed.
WORST_MOMENTS = {
    "F4: the Master dies after COMMIT and before the ack": ("master", "ingest.after_commit", 40),
    "F5: the Master dies before COMMIT": ("master", "ingest.before_commit", 40),
    "F6: the daemon dies after the ack and before the delete": ("daemon", "link.after_ack_before_delete", 5),
    "the daemon dies before its spool commits": ("daemon", "spool.before_commit", 40),
    "the daemon dies after its spool has committed": ("daemon", "spool.after_commit", 40),
    "the daemon dies before Begin": ("daemon", "link.before_begin", 1),
}


@pytest.mark.parametrize(("program", "point", "hit"), WORST_MOMENTS.values(), ids=WORST_MOMENTS)
async def test_death_at_the_worst_moment(tmp_path: Path, chance: random.Random, program: str, point: str, hit: int) -> None:
    """F4, F5, F6 and their like: what was under way there is stored once, after the next start."""
    await die_and_recover(tmp_path, chance, program, point, hit)


async def test_a_store_that_fails_now_and_then_delays_and_loses_nothing(tmp_path: Path, chance: random.Random) -> None:
    """A commit that fails is not acknowledged; one that fails after it was durable is not stored again."""
    environment = {
        "TENANTRY_TEST_BUILD": "1",
        "TENANTRY_FAILPOINTS": "ingest.before_commit=raise@30,ingest.after_commit=raise@60",
    }
    with running_master(tmp_path, *FAST, environment=environment) as master:
        async with running_daemon(master, tmp_path, "one", f"--seed={chance.random()}") as daemon:
            await asyncio.to_thread(lambda: None)
            await daemon.acknowledged(60)
            await daemon.drained()
            assert master.log.count("commit failed") == 2
