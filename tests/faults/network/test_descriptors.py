"""F27: a Master that has no file descriptor left."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests.servers.daemon import running_daemon
from tests.servers.master import running_master
from tests.servers.wire_tenant import WireTenant, enrolled, open_link

LIMIT = 256
RECOVERY_S = 60.0


@contextlib.contextmanager
def few_descriptors(limit: int) -> Iterator[None]:
    """What is started meanwhile has this limit, and cannot raise it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_f27_without_descriptors_existing_tenants_keep_streaming(tmp_path: Path) -> None:
    """400 idle connections against 256 descriptors: who is connected goes on; when they have gone, others can come again."""
    with contextlib.ExitStack() as stack:
        with few_descriptors(LIMIT):
            master = stack.enter_context(running_master(tmp_path, "heartbeat_interval=1s"))
        async with running_daemon(master, tmp_path, "one") as daemon:
            newcomer = WireTenant(await enrolled(master, "newcomer"))
            await daemon.acknowledged(3)
            host, _, port = master.link_address.rpartition(":")
            with contextlib.ExitStack() as crowd:
                for _ in range(400):
                    idle = crowd.enter_context(socket.socket())
                    idle.setblocking(False)
                    idle.connect_ex((host, int(port)))
                await daemon.acknowledged(30)
            gone = time.monotonic()
            while True:
                with contextlib.suppress(Exception):
                    async with open_link(master, newcomer.identity) as link:
                        await link.open(newcomer)
                        break
                assert time.monotonic() - gone < RECOVERY_S, "nobody is let in again"
            await daemon.checked(master, most_links=1)
