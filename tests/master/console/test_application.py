"""The application, asked without a server."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.console import application
from tenantry.master.console.application import Console
from tenantry.master.console.forwarding import Forwarder
from tenantry.master.console.pages import Pages

METHOD = "/tenantry.v1.SessionService/SignIn"


class Browser:
    """One request in parts, and what is answered."""

    def __init__(self) -> None:
        self.sends: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.status = 0

    async def ask(self, console: Console) -> None:
        """Make the request; returns with its answer."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": METHOD,
            "headers": [(b"host", b"x")],
            "client": ("127.0.0.1", 1),
        }
        await console(scope, self.sends.get, self._take)

    def put(self, part: bytes, *, more: bool) -> None:
        """Send a part of the body."""
        self.sends.put_nowait({"type": "http.request", "body": part, "more_body": more})

    async def _take(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)


@pytest.fixture
async def console(tmp_path: Path) -> Console:
    """A console in front of nothing; no call here comes that far."""
    return Console(Pages(tmp_path, openid_issuer=None), Forwarder(f"unix:{tmp_path / 'nothing'}"), {METHOD: False})


async def test_bodies_of_all_browsers_together_are_bounded(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one holds back is missing to others, who are told to try again, until it is answered or gone."""
    monkeypatch.setattr(application, "BODIES", 100)
    slow, refused, served = Browser(), Browser(), Browser()
    async with asyncio.TaskGroup() as group:
        group.create_task(slow.ask(console))
        slow.put(bytes(80), more=True)
        refused.put(bytes(50), more=False)
        await asyncio.sleep(0)
        await refused.ask(console)
        assert refused.status == 503
        slow.sends.put_nowait({"type": "http.disconnect"})
    served.put(bytes(50), more=False)
    await served.ask(console)
    assert (served.status, slow.status) == (403, 0)


async def test_a_slow_request_is_given_up(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a body byte by byte has a bounded time for it."""
    monkeypatch.setattr(application, "BODY_S", 0.01)
    slow = Browser()
    slow.put(b"x", more=True)
    await slow.ask(console)
    assert slow.status == 408
