"""F10: writes that arrive late."""

import random
from pathlib import Path

from tests.faults.delivery.late_writes import SLOW_COMMITS, check_late_writes
from tests.servers.master import running_master


async def test_f10_late_writes_of_an_older_link_are_refused(
    tmp_path: Path, chance: random.Random, long_form: bool
) -> None:
    """From the moment in which a newer link is told where the Master stands, the older one changes nothing."""
    with running_master(tmp_path, environment=SLOW_COMMITS) as master:
        await check_late_writes(master, chance, 100 if long_form else 4)
