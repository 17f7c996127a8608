"""What a link says about tunnels, in both directions."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantry.protocol.messages import (
    FromDaemon,
    TenantState,
    TunnelClose,
    TunnelDial,
    TunnelOffer,
    TunnelReport,
    TunnelsHeld,
)
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tests.daemon.fake_master import FakeMaster, make_master, serve
from tests.daemon.in_process import joined, running
from tests.servers.deadlines import eventually

TUNNEL = "0a3c1ca2-be6c-453a-a2e0-837ddbc74d4f"
OVER = TunnelReport(TUNNEL, TunnelState.CLOSED, end=TunnelEnd.BY_TENANT, detail="ended here")


@dataclass
class Desk:
    """Takes what comes, and has something to say at the begin of each link."""

    heard: list[tuple[object, ...]] = field(default_factory=list)

    def offered(self, token: str, relay_port: int) -> None:
        """Note it."""
        self.heard.append(("offer", token, relay_port))

    def dial_asked(self, token: str) -> None:
        """Note it."""
        self.heard.append(("dial", token))

    def ended(self, tunnel: str, end: TunnelEnd, detail: str) -> None:
        """Note it."""
        self.heard.append(("ended", tunnel, end, detail))

    def kept(self, tunnels: Collection[str]) -> None:
        """Note it."""
        self.heard.append(("kept", *tunnels))

    def news(self) -> list[FromDaemon]:
        """One that is over, and that there is no other."""
        return [OVER, TunnelsHeld(())]


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[FakeMaster]:
    """A Master that listens."""
    async with serve(make_master(tmp_path)) as served:
        yield served


async def test_what_the_master_says_is_handed_over_and_answers_reach_it(tmp_path: Path, master: FakeMaster) -> None:
    """Behind `begin` the daemon says how its tunnels stand; in Maintenance too; after a reconnect again."""
    master.state = TenantState.MAINTENANCE
    desk = Desk()
    async with running(await joined(tmp_path / "d", master), tunnels=desk) as link:
        await master.until(lambda: len(master.tunnel_news) == 2)
        assert master.hellos[0].takes_tunnels and master.tunnel_news == [OVER, TunnelsHeld(())]
        for message in (
            TunnelOffer("grant", 7448),
            TunnelDial("ticket"),
            TunnelClose(TUNNEL, TunnelEnd.RIGHTS, "a role"),
            TunnelsHeld((TUNNEL,)),
        ):
            await master.push(message)
        await eventually(lambda: len(desk.heard) == 4, "all that was said")
        assert desk.heard == [
            ("offer", "grant", 7448),
            ("dial", "ticket"),
            ("ended", TUNNEL, TunnelEnd.RIGHTS, "a role"),
            ("kept", TUNNEL),
        ]
        waiting = TunnelReport(TUNNEL, TunnelState.WAITING_FOR_CONSENT)
        assert link.keeper.send(waiting)
        await master.until(lambda: master.tunnel_news[-1] == waiting)
        await master.push(None)
        await master.until(lambda: len(master.tunnel_news) == 5)
    assert not link.keeper.send(waiting)


async def test_a_daemon_without_tunnels_says_so(tmp_path: Path, master: FakeMaster) -> None:
    """And goes on when it is asked for one nevertheless."""
    async with running(await joined(tmp_path / "d", master)):
        await master.until(lambda: bool(master.heartbeats))
        await master.push(TunnelOffer("grant", 7448))
        beats = len(master.heartbeats)
        await master.until(lambda: len(master.heartbeats) > beats)
    assert not master.hellos[0].takes_tunnels and master.tunnel_news == []
