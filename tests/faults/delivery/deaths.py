"""How programs die here, and what must hold afterwards. The museum of bugs runs the same."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.daemon import NumberedDaemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.history import PromiseBroken
from tests.servers.master import MasterProcess

NO_TAIL = {"TENANTRY_DAEMON_SPOOL_TAIL": "0"}


async def kill_rounds(
    master: MasterProcess, daemons: Sequence[NumberedDaemon], victim: str, chance: random.Random, rounds: int
) -> int:
    """Kill and start again, each time after some progress; how many kills there were."""
    for _ in range(rounds):
        await asyncio.gather(*(daemon.acknowledged(3) for daemon in daemons))
        # The moment of a kill is drawn, not waited for.
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        if victim != "master":
            for daemon in daemons:
                daemon.kill()
        if victim != "daemons":
            master.kill()
            await asyncio.to_thread(master.start)
        if victim != "master":
            for daemon in daemons:
                daemon.start()
    return rounds


async def die_and_recover(
    master: MasterProcess,
    folder: Path,
    chance: random.Random,
    program: str,
    point: str,
    hit: int,
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """A program dies at a failpoint, comes back, and all is delivered: death is no reason to lose anything.

    Raises PromiseBroken, NoProgress.
    """
    deadly = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": f"{point}=kill@{hit}"}
    async with running_daemon(
        master, folder, "one", f"--seed={chance.random()}", environment={**NO_TAIL, **(environment or {})}
    ) as daemon:
        await daemon.acknowledged(2)
        if program == "master":
            await _die_as_master(master, deadly)
        else:
            await _die_as_daemon(daemon, deadly)
        await daemon.acknowledged(2)
        delivered = await daemon.checked(master, most_links=4)
        if delivered.declared:
            raise PromiseBroken(f"{delivered.declared} records were given up without need")


async def _die_as_master(master: MasterProcess, deadly: Mapping[str, str]) -> None:
    usual = master.environment
    master.kill()
    master.environment = {**usual, **deadly}
    try:
        await asyncio.to_thread(master.start)
        assert master.process is not None
        code = await eventually(master.process.poll, "the Master's death")
        assert code == -9
    finally:
        master.environment = usual
        await asyncio.to_thread(master.start)


async def _die_as_daemon(daemon: NumberedDaemon, deadly: Mapping[str, str]) -> None:
    daemon.kill()
    daemon.start(**deadly)
    assert daemon.process is not None
    code = await eventually(daemon.process.poll, "the daemon's death")
    assert code == -9
    daemon.start()
