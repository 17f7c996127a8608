"""A daemon without a Master notices the end of its licence when it comes, also when somebody sets the clock."""

import asyncio
import contextlib
from dataclasses import dataclass, field, replace

import pytest

from tenantry.daemon.domain.spooling import Deposit
from tenantry.daemon.operations.standing_alone import CHECK_S, CHECK_WITHOUT_S, CLOCK_S, LicenceWatch
from tenantry.protocol.failures import LicenceExpired
from tenantry.protocol.licences import Licence, LicenceKind

NOW = 1_700_000_000_000
DAY_MS = 86_400_000


def licence(end_ms: int) -> Licence:
    """A licence of the stand-alone kind until then."""
    return Licence("1", LicenceKind.STAND_ALONE, "Acme", "f" * 16, NOW, NOW - DAY_MS, end_ms)


@dataclass
class World:
    """A clock that runs by the watch's own sleep, what is in force by it, and what is kept of warnings."""

    installed: list[Licence]
    now_ms: int = NOW
    slept: list[float] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    deposits: list[Deposit] = field(default_factory=list)
    memory: dict[str, bytes] = field(default_factory=dict)
    jumps: dict[int, int] = field(default_factory=dict)
    until_ms: int = 0

    async def check(self) -> Licence:
        """The licence in force."""
        self.looks.append(self.now_ms - NOW)
        for one in self.installed:
            if one.in_force(self.now_ms):
                return one
        raise LicenceExpired(serial="1", ended="then")

    async def sleep(self, seconds: float) -> None:
        """Time passes; at a jump somebody sets the clock."""
        self.slept.append(seconds)
        self.now_ms += round(seconds * 1000)
        self.now_ms += self.jumps.pop(len(self.slept), 0)
        if sum(self.slept) * 1000 >= self.until_ms:
            raise asyncio.CancelledError

    async def recall(self, key: str) -> bytes | None:
        """What is remembered."""
        return self.memory.get(key)

    async def accept(self, deposit: Deposit) -> None:
        """A warning."""
        self.deposits.append(deposit)
        self.memory.update(deposit.memory)

    async def run(self, for_s: float) -> LicenceWatch:
        """Watch for so long."""
        self.until_ms = round(for_s * 1000)
        watch = LicenceWatch(
            self,  # type: ignore[arg-type]
            self.check,
            self.installed[0],
            wall_ms=lambda: self.now_ms,
            sleep=self.sleep,
        )
        with contextlib.suppress(asyncio.CancelledError):
            await watch.run()
        return watch


@pytest.mark.parametrize("end_s", [0.001, 3.7, 601.0, 1_234.5])
async def test_the_end_is_noticed_when_it_comes(end_s: float) -> None:
    """Not at the next look of every ten minutes."""
    world = World([licence(NOW + round(end_s * 1000))])
    watch = await world.run(end_s + 1)
    assert watch.expired
    assert 0 <= min(at for at in world.looks if at >= end_s * 1000) - end_s * 1000 <= 2
    assert len(world.looks) <= end_s / CHECK_S + 4, "nothing is read more often for it"


async def test_a_clock_that_is_set_forward_is_noticed_within_seconds() -> None:
    """A year's licence, and somebody sets the clock two years on."""
    world = World([licence(NOW + 365 * DAY_MS)], jumps={3: 730 * DAY_MS})
    watch = await world.run(4 * CLOCK_S)
    assert watch.expired and len(world.deposits) == 1
    assert len(world.slept) == 4, "the third sleep was in the old time, and after it was looked"


@pytest.mark.parametrize("set_back", [True, False])
async def test_what_is_in_force_again_is_found_within_a_minute(set_back: bool) -> None:
    """The clock is set back, or another licence is put beside it: without one in force is looked every minute, no more often."""
    world = World([licence(NOW + 1_000)])
    if set_back:
        world.jumps[4] = -DAY_MS // 2
    else:
        world.installed.append(replace(licence(NOW + 900 * DAY_MS), not_before_ms=NOW + 6_000))
    watch = await world.run(2 + CHECK_WITHOUT_S)
    assert not watch.expired and watch.trouble is None
    assert len(world.looks) == 3
