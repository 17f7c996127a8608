"""F7, F8: connections that end anywhere, and a Master whose answers come late or do not arrive."""

import asyncio
import random
import time
from pathlib import Path

import psutil
import pytest

from tests.servers.daemon import NumberedDaemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess
from tests.servers.proxy import FaultyProxy, faulty_proxy

HANDSHAKE_BYTES = 6_000
MORE_MEMORY_BYTES = 16 << 20
QUIET_S = 1.0


def bytes_until_cut(chance: random.Random) -> int:
    """Now and then in the middle of the handshake, else in the middle of messages."""
    return chance.randint(0, HANDSHAKE_BYTES) if chance.random() < 0.2 else chance.randint(HANDSHAKE_BYTES, 30_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_f7_connections_cut_after_random_bytes(
    steady_master: MasterProcess, tmp_path: Path, chance: random.Random, long_form: bool
) -> None:
    """In both directions, inside of handshakes, frames and records: all is stored once, with no more links than cuts."""
    wanted = 200 if long_form else 24
    async with faulty_proxy(chance) as proxy:
        host, _, port = steady_master.link_address.rpartition(":")
        proxy.upstream = (host, int(port))
        address = f"127.0.0.1:{proxy.port}"
        async with (
            running_daemon(steady_master, tmp_path, "one", f"--seed={chance.random()}", address=address) as one,
            running_daemon(steady_master, tmp_path, "two", f"--seed={chance.random()}", address=address) as two,
        ):
            proxy.allowance = bytes_until_cut
            proxy.cut_all()
            await eventually(lambda: proxy.cuts >= wanted, f"{wanted} cuts", 10 * wanted)
            proxy.allowance = None
            proxy.cut_all()
            for daemon in (one, two):
                await daemon.checked(steady_master, most_links=proxy.connections)
            assert one.count_told("resume") + two.count_told("resume") <= proxy.cuts + 6


@pytest.mark.timeout(300)
async def test_f8_answers_that_stay_away_stop_the_sender_and_cost_no_memory(
    steady_master: MasterProcess, tmp_path: Path, chance: random.Random, long_form: bool
) -> None:
    """Credits run out and nothing more is sent; the spool on the disk grows, the memory does not; then all is delivered."""
    async with faulty_proxy(chance) as proxy:
        host, _, port = steady_master.link_address.rpartition(":")
        proxy.upstream = (host, int(port))
        async with running_daemon(
            steady_master, tmp_path, "one", "--pause=0.005", address=f"127.0.0.1:{proxy.port}"
        ) as daemon:
            await daemon.acknowledged(20)
            assert daemon.process is not None
            process = psutil.Process(daemon.process.pid)
            memory = process.memory_info().rss
            proxy.swallow_answers()
            await _sends_nothing_more(proxy, daemon)
            if long_form:
                await asyncio.sleep(30)  # the length of this fault; the link is given up and tried again meanwhile
            waiting = daemon.status()["spool"]["unacknowledged_records"]
            grown = process.memory_info().rss - memory
            proxy.let_answers_through()
            print(f"waiting {waiting}, memory grew by {grown >> 10} KiB")
            assert waiting > 20
            assert grown < MORE_MEMORY_BYTES
            await daemon.checked(steady_master, most_links=proxy.connections)


async def test_a_far_master_is_reached(steady_master: MasterProcess, tmp_path: Path, chance: random.Random) -> None:
    """Each round trip takes 0.8 s, as over a satellite: the handshake is waited for, one link opens, and all is delivered."""
    async with faulty_proxy(chance) as proxy:
        host, _, port = steady_master.link_address.rpartition(":")
        proxy.upstream = (host, int(port))
        proxy.delay_s = 0.4
        async with running_daemon(steady_master, tmp_path, "one", address=f"127.0.0.1:{proxy.port}") as daemon:
            await daemon.acknowledged(3)
            await daemon.checked(steady_master, most_links=1)


async def _sends_nothing_more(proxy: FaultyProxy, daemon: NumberedDaemon) -> None:
    """Records go on being accepted for a while in which not even the bytes of one heartbeat a record are sent."""
    mark = (proxy.sent_up, daemon.count_told("accepted"), time.monotonic())

    def is_stopped() -> bool:
        nonlocal mark
        sent, accepted, since = mark
        if proxy.sent_up - sent > 10 * (daemon.count_told("accepted") - accepted + 40):
            mark = (proxy.sent_up, daemon.count_told("accepted"), time.monotonic())
            return False
        return time.monotonic() - since > QUIET_S and daemon.count_told("accepted") > accepted + 50

    await eventually(is_stopped, "the end of sending")
