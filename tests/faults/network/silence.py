"""Peers that fall silent: frozen, hung, or behind a network that swallows everything. The museum runs some of it too."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.servers.daemon import GENTLY, NumberedDaemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess, running_master
from tests.servers.namespaces import Namespaces, two_namespaces
from tests.servers.operating import read_records

# Promised are 9 s and 20 s; the rest is for the way to the test, which looks into logs and asks through the API.
NOTICE_S = 9.0 + 3.0
ALERT_S = 20.0 + 6.0
FREEZE_S = 15.0


async def connection_alerts(master: MasterProcess, guid: str) -> list[bool]:
    """The alerts "connection lost" of a Tenant: True for each that was raised, False for each that was ended."""
    records = [dict(one.fields) for one in await read_records(master, "alerts", guid)]
    return [bool(fields["firing"]) for fields in records if fields["rule"] == "connection lost"]


def links_ended(master: MasterProcess, guid: str) -> int:
    """How many links of a Tenant the Master has seen end."""
    return sum('"event":"link ended"' in line and guid in line for line in master.log.splitlines())


async def until_alerted(master: MasterProcess, guid: str, since: float) -> None:
    """Wait for the alert. Raises AssertionError when it comes too late."""

    async def is_raised() -> bool:
        return bool(await connection_alerts(master, guid))

    await eventually(is_raised, "the alert", ALERT_S - (time.monotonic() - since))


async def until_over(master: MasterProcess, guid: str) -> None:
    """Wait until the one alert has ended, and see that there was no other."""

    async def is_over() -> bool:
        alerts = await connection_alerts(master, guid)
        assert alerts in ([], [True], [True, False]), alerts
        return alerts == [True, False]

    await eventually(is_over, "the end of the alert")


async def frozen_daemon(folder: Path, environment: Mapping[str, str] | None = None, *, alert: bool = True) -> None:
    """F11: SIGSTOP of a daemon, whose kernel goes on answering TCP."""
    with running_master(folder, "heartbeat_interval=1s", environment=environment) as master:
        async with running_daemon(master, folder, "one", GENTLY) as daemon:
            await daemon.acknowledged(3)
            ended = links_ended(master, daemon.guid)
            daemon.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            await eventually(lambda: links_ended(master, daemon.guid) > ended, "the end of the link", NOTICE_S)
            if alert:
                await until_alerted(master, daemon.guid, stopped)
            daemon.signal(signal.SIGCONT)
            if alert:
                await until_over(master, daemon.guid)
            await daemon.checked(master, most_links=3)


async def hung_daemon(folder: Path) -> None:
    """F11: the event loop of a daemon hangs, while the threads of gRPC answer every ping."""
    with running_master(folder, "heartbeat_interval=1s") as master:
        async with running_daemon(master, folder, "one", GENTLY) as daemon:
            await daemon.acknowledged(3)
            ended = links_ended(master, daemon.guid)
            with daemon.blocked():
                await until_alerted(master, daemon.guid, time.monotonic())
            assert links_ended(master, daemon.guid) == ended, (
                "the pings were not answered: this is not the fault that is meant"
            )
            await until_over(master, daemon.guid)
            await daemon.checked(master, most_links=3)


async def frozen_master(folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """F10: SIGSTOP of the Master, and SIGCONT when its daemons have given their links up."""
    with running_master(folder, "heartbeat_interval=1s", "reconnect_spread=0s") as master:
        async with running_daemon(master, folder, "one", GENTLY, environment=environment) as daemon:
            await daemon.acknowledged(3)
            master.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                await eventually(
                    lambda: not daemon.status().get("link", {}).get("connected", True), "the end of the link", NOTICE_S
                )
                await asyncio.sleep(max(0.0, FREEZE_S - (time.monotonic() - stopped)))  # the length of this fault
            finally:
                master.signal(signal.SIGCONT)
            await daemon.acknowledged(3)
            # Attempts of the frozen time may wait at the Master's door and be opened, one after the other, when it thaws.
            await daemon.checked(master, most_links=12)


@contextlib.asynccontextmanager
async def across(folder: Path, network: Namespaces) -> AsyncIterator[tuple[MasterProcess, NumberedDaemon]]:
    """A Master here, a daemon there."""
    with running_master(folder, "heartbeat_interval=1s", "reconnect_spread=0s", "link_listen=0.0.0.0:0") as master:
        address = f"{network.here}:{master.link_address.rpartition(':')[2]}"
        prefix = ("ip", "netns", "exec", network.name)
        async with running_daemon(master, folder, "one", GENTLY, prefix=prefix, address=address) as daemon:
            yield master, daemon


async def black_hole(folder: Path) -> None:
    """F9: no FIN, no RST, nothing. Raises NoNamespaces."""
    with two_namespaces() as network:
        async with across(folder, network) as (master, daemon):
            await daemon.acknowledged(3)
            ended = links_ended(master, daemon.guid)
            network.lose_everything()
            lost = time.monotonic()
            await asyncio.gather(
                eventually(lambda: links_ended(master, daemon.guid) > ended, "the Master's notice", NOTICE_S),
                eventually(
                    lambda: not daemon.status().get("link", {}).get("connected", True), "the daemon's", NOTICE_S
                ),
            )
            await until_alerted(master, daemon.guid, lost)
            network.heal()
            await until_over(master, daemon.guid)
            await daemon.checked(master, most_links=4)
