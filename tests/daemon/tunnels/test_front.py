"""A daemon that has had no tunnel: it knows its policy, and what tunnels need comes with the first offer."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.daemon.domain.failures import ConsentNotAsked, TunnelNotHeld
from tenantry.daemon.tunnels.front import TunnelFront
from tenantry.daemon.tunnels.policy_file import PolicyFile
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy
from tenantry.protocol.messages import TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tests.daemon.tunnels.serving import running_site
from tests.servers.deadlines import eventually


async def test_before_the_first_offer_nothing_is_loaded(tmp_path: Path) -> None:
    """It says what it allows, warns of a file that cannot be used, and knows no tunnel; then it hands everything over."""
    warnings: list[str] = []

    async def warn(text: str) -> None:
        warnings.append(text)

    file = tmp_path / "policy.toml"
    file.write_text("nonsense")
    async with running_site(tmp_path / "site") as site, asyncio.TaskGroup() as tasks:
        made: list[int] = []

        def make():  # type: ignore[no-untyped-def]
            made.append(1)
            return site.tunnels

        front = TunnelFront(tmp_path, WatchedPolicy(PolicyFile(file), warn), make)
        running = tasks.create_task(front.run())
        await eventually(lambda: warnings, "a warning")
        assert front.describe()["policy"]["trouble"] and front.describe()["held"] == []
        assert front.describe("one") == site.tunnels.describe("one")
        assert front.describe().keys() == site.tunnels.describe().keys()
        assert list(front.news()) == [TunnelsHeld(())]
        front.kept([])
        front.ended("one", TunnelEnd.RIGHTS, "")
        with pytest.raises(TunnelNotHeld):
            front.close("one", "a test")
        with pytest.raises(ConsentNotAsked):
            front.answer("one", yes=True, who="a test")
        assert not made
        running.cancel()
        grant = site.grant()
        front.offered(site.signer.sign_grant(grant, site.authority), 1)
        assert made and (await site.report(grant)).state is TunnelState.OPEN
        front.dial_asked("nothing")
        assert made == [1] and front.describe() == site.tunnels.describe()


def test_a_daemon_at_rest_has_not_loaded_what_tunnels_need() -> None:
    """Neither the certificate library nor what carries connections."""
    program = "import sys, tenantry.daemon.bootstrap; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tenantry.daemon.tunnels.front" in loaded
    assert not loaded & {"cryptography", "joserfc", "tenantry.daemon.tunnels.serving", "tenantry.transport.tunnel_ends"}
