"""The process that a Master runs in: its event loop, its signals, and what systemd is told."""

import asyncio
import gc
import signal
import sys
from typing import Final

import uvloop

from tenantry.master.bootstrap.running import running_master
from tenantry.master.config import MasterConfig
from tenantry.process.notify import ServiceNotifier

COLLECTOR: Final = (20_000, 20, 100)
"""When the collector of garbage runs. Batches make many objects and no cycles: it would walk every link's tasks for nothing."""


def run(config: MasterConfig) -> None:
    """Run a Master until SIGTERM or SIGINT. Raises as `running_master`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: MasterConfig) -> None:
    gc.set_threshold(*COLLECTOR)
    # The committer gives the interpreter away at each call of the database; with the default of 5 ms it would wait that long for a
    # busy loop to give it back, several times a round.
    sys.setswitchinterval(0.0005)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    notifier = ServiceNotifier.from_environment()
    async with running_master(config) as master:
        gc.collect()
        gc.freeze()
        notifier.ready(f"listening on {master.api_address} and {master.link_address}")
        async with asyncio.TaskGroup() as group:
            watchdog = group.create_task(_keep_alive(notifier))
            await stop.wait()
            watchdog.cancel()
        notifier.stopping()


async def _keep_alive(notifier: ServiceNotifier) -> None:
    interval = notifier.watchdog_interval
    while interval is not None:
        notifier.watchdog()
        await asyncio.sleep(interval / 2)
