"""The daemon's link, spool and conduct in the process of the test, with everything real but the probes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.link.enrolment import JoinOrder, join
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.daemon.link.keeper import LinkKeeper
from tenantry.daemon.link.tunnel_news import TunnelDesk
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.spool.spool import Spool
from tenantry.process.files import private_directory
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import Goodbye, GoodbyeReason, Stream
from tests.daemon.fake_master import FakeMaster
from tests.servers.deadlines import PATIENCE_S

LAYOUT = make_layout([Series("a", "1", SeriesKind.GAUGE)])
SPOOL = SpoolSettings(quota=8 << 20, tail_bytes=1 << 20, tail_age_ms=3_600_000)


@dataclass
class RunningLink:
    """What a test works with."""

    folder: IdentityFolder
    spool: Spool
    conduct: ConductKeeper
    keeper: LinkKeeper
    changed: asyncio.Event
    heard: bool | None = None

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE_S) -> None:
        """Wait until the condition holds after something has changed about the link."""
        async with asyncio.timeout(timeout):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def accept(self, stream: Stream, *records: bytes) -> None:
        """Keep records of a stream."""
        layout_id = LAYOUT.id if stream is Stream.METRICS else None
        now_ms = time.time_ns() // 1_000_000
        await self.spool.accept(Deposit([Entry(stream, one, now_ms, layout_id) for one in records], [LAYOUT]))


def order_of(master: FakeMaster) -> JoinOrder:
    """What its join string says."""
    return JoinOrder.from_string(master.join_string())


async def joined(path: Path, master: FakeMaster) -> IdentityFolder:
    """A folder whose machine has joined."""
    folder = IdentityFolder(private_directory(path))
    await join(folder, order_of(master))
    return folder


@contextlib.asynccontextmanager
async def running(
    folder: IdentityFolder, settings: SpoolSettings = SPOOL, tunnels: TunnelDesk | None = None
) -> AsyncIterator[RunningLink]:
    """The link of a joined folder, kept up until the end."""
    identity = folder.load()
    spool = Spool(folder.folder, identity.guid, settings)
    conduct = ConductKeeper(folder.folder / "conduct.json", ["cpu"])
    changed = asyncio.Event()
    keeper = LinkKeeper(
        identity,
        folder,
        spool,
        conduct,
        spool.grown,
        software_version="test",
        host_name="host",
        chance=random.Random(1),
        on_change=changed.set,
        tunnels=tunnels,
    )
    link = RunningLink(folder, spool, conduct, keeper, changed)

    async def keep() -> None:
        link.heard = await keeper.run()

    async with spool.opened(), asyncio.TaskGroup() as tasks:
        tasks.create_task(keep())
        try:
            yield link
        finally:
            keeper.stop(Goodbye(GoodbyeReason.STOP))
