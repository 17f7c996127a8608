"""F19: clocks that are wrong, and clocks that jump."""

import signal
from pathlib import Path

import pytest

from tenantry.protocol.failures import ClockSkewed
from tests.servers.daemon import joined_daemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records
from tests.servers.refusals import refused
from tests.servers.wire_tenant import WireTenant, enrolled, now_ms, open_link

FIVE_MINUTES_MS = 300_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize("offset_ms", [-FIVE_MINUTES_MS, FIVE_MINUTES_MS])
async def test_f19_five_minutes_are_no_reason_to_refuse_anybody(steady_master: MasterProcess, offset_ms: int) -> None:
    """A clock that is a little wrong is let in."""
    tenant = WireTenant(await enrolled(steady_master, f"clock {offset_ms}"))
    async with open_link(steady_master, tenant.identity) as link:
        await link.open(tenant, clock_ms=now_ms() + offset_ms)


@pytest.mark.parametrize("offset_ms", [-HOUR_MS, HOUR_MS])
async def test_f19_an_hour_is_refused_by_name_and_told_once(steady_master: MasterProcess, offset_ms: int) -> None:
    """The refusal names the clock and how far it is off; operators get one alert however often it is tried."""
    tenant = WireTenant(await enrolled(steady_master, f"clock {offset_ms}"))
    for _ in range(3):
        async with open_link(steady_master, tenant.identity) as link:
            with refused(ClockSkewed):
                await link.open(tenant, clock_ms=now_ms() + offset_ms)
    alerts = [dict(one.fields) for one in await read_records(steady_master, "alerts", tenant.identity.guid)]
    assert [alert["rule"] for alert in alerts] == ["clock skew"]


async def test_f19_a_daemon_whose_clock_is_wrong_says_so_and_recovers_when_it_is_set(
    steady_master: MasterProcess, tmp_path: Path
) -> None:
    """An hour ahead: its status names the reason; with the right clock everything that waited is delivered."""
    daemon = await joined_daemon(steady_master, tmp_path, "one")
    async with running_daemon(steady_master, tmp_path, "two", "--clock=-240") as two:
        try:
            daemon.start("--clock=3600")
            trouble = await eventually(lambda: daemon.status().get("link", {}).get("trouble"), "a trouble")
            assert trouble["reason"] == "CLOCK_SKEWED"
            assert "CLOCK_SKEWED" in daemon.log
            daemon.stop()
            daemon.start()
            await daemon.connected()
        finally:
            daemon.kill()
        await two.acknowledged(3)
        await two.checked(steady_master, most_links=1)


async def test_f19_a_clock_that_jumps_back_during_the_stream_disturbs_no_timer_and_no_order(
    steady_master: MasterProcess, tmp_path: Path
) -> None:
    """An hour back: the same link goes on, acknowledgements come, the order is that of the sequence numbers."""
    async with running_daemon(steady_master, tmp_path, "one") as daemon:
        await daemon.acknowledged(5)
        daemon.signal(signal.SIGHUP)
        await daemon.acknowledged(20)
        await daemon.checked(steady_master, most_links=1)
