"""Kill -9 of the Master at every step between an alert and its delivery: nothing is lost, and one thing at most is sent again."""

import random
from collections.abc import Iterator

import pytest

from tests.faults.outbox.promises import POINTS, check_rebinding, check_redirects, die_at, die_at_random
from tests.servers.master import MasterProcess, running_master
from tests.servers.telling import LOOPBACK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that dies often."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h", "reconnect_spread=0s")
    with running_master(tmp_path_factory.mktemp("outbox"), *quiet, LOOPBACK) as running:
        yield running


@pytest.mark.parametrize("point", POINTS)
async def test_a_master_dies_while_it_tells(mortal: MasterProcess, point: str) -> None:
    """The alert and what is told of it are both there or neither is; what was under way goes out again under its key."""
    one = await die_at(mortal, point)
    again = len(one.hook.requests) - len({request.key for request in one.hook.requests})
    assert again == (1 if point == "delivery.after_attempt" else 0)


async def test_a_master_dies_at_any_moment(mortal: MasterProcess, chance: random.Random, long_form: bool) -> None:
    """While firings come one after the other, and the receiver fails now and then."""
    await die_at_random(mortal, chance, 100 if long_form else 1)


async def test_nothing_leads_inside() -> None:
    """Neither a redirect nor a name that changes its mind."""
    await check_redirects()
    await check_rebinding()
