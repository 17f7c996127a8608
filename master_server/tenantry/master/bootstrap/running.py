"""A Master from its store to its last goodbye."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from tenantry.master import background
from tenantry.master.bootstrap.core import Core, Opened, load_core
from tenantry.master.bootstrap.listeners import Certificates, Listeners
from tenantry.master.bootstrap.services import Services, add_services
from tenantry.master.config import MasterConfig, split_listen
from tenantry.master.domain.tenants import Tenant
from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.monitoring.serving import MetricsServer
from tenantry.master.operations import supervising
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.operations.local_deeds import DeedFolder, note_deeds
from tenantry.master.operations.trusting import trust_of
from tenantry.master.operations.viewers import ViewerDirectory
from tenantry.master.operations.window_judging import WindowJudge
from tenantry.master.rpc.link_service import push_changes
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.process.files import private_directory, write_private
from tenantry.protocol.messages import TenantState

GRACE_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunningMaster:
    """A Master that answers."""

    api_address: str
    link_address: str
    monitoring_address: str | None
    machines_address: str | None
    console_address: str | None
    tunnels_address: str | None
    relay_address: str | None


@contextlib.asynccontextmanager
async def running_master(config: MasterConfig, clocks: Clocks | None = None) -> AsyncIterator[RunningMaster]:
    """A Master on the running loop, from the first answer until everybody has been told goodbye.

    Raises what `Database.open` and `load_trust` raise, and ListenFailed.
    """
    clocks = clocks or Clocks()
    store = await _open(config)
    try:
        if store.database.kind == "postgresql" and not await asyncio.to_thread(store.database.is_walled):
            log.warning("row-level security does not bind this Master: its role is a superuser or has BYPASSRLS")
        async with _serving(config, clocks, store) as master:
            yield master
    finally:
        await asyncio.to_thread(store.database.close)


async def _open(config: MasterConfig) -> Opened:
    changes: asyncio.Queue[Changes] = asyncio.Queue()
    viewers, rules = ViewerDirectory(), RuleEvaluator(config.clock_tolerance)
    windows = WindowJudge(config.clock_tolerance)
    deliveries = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(changed: Changes) -> None:
        if changed.users or changed.privacy:
            viewers.expect()
        if changed.deliveries:
            deliveries.set()
        changes.put_nowait(changed)

    def on_commit(changed: Changes) -> None:
        rules.note(changed)
        windows.note(changed)
        # Before the answers to what was committed: what somebody has lost acts on the next call.
        loop.call_soon_threadsafe(note, changed)

    database = await asyncio.to_thread(partial(Database.open, config.dsn, on_commit=on_commit))
    return Opened(database, changes, viewers, rules, windows, deliveries)


@contextlib.asynccontextmanager
async def _serving(config: MasterConfig, clocks: Clocks, store: Opened) -> AsyncIterator[RunningMaster]:
    def renew_listeners() -> None:
        certificates.renew()

    core = load_core(config, clocks, store, renew_listeners)
    certificates = Certificates(core)
    listeners = Listeners(core, certificates)
    services = await add_services(core, listeners)
    core.register.listen(partial(_tell_link, core))
    core.committer.start()
    await core.sealer.seal()
    for server in listeners.all:
        await server.start()
    async with contextlib.AsyncExitStack() as beside:
        monitoring_address = beside.enter_context(_monitoring(config, core.metrics))
        await beside.enter_async_context(listeners.link.serving())
        console = listeners.console
        if console is not None:
            await beside.enter_async_context(console.serving())
        master = RunningMaster(
            listeners.api_address,
            listeners.link_address,
            monitoring_address,
            listeners.machines_address,
            None if console is None else console.address,
            None if listeners.tunnels is None else listeners.tunnels.address,
            None if listeners.tunnels is None else listeners.tunnels.relay_address,
        )
        _write_endpoints(config, master)
        addresses = {"api": master.api_address, "link": master.link_address, "console": master.console_address}
        log.info("listening", **{name: at for name, at in addresses.items() if at}, tenants=len(core.register))
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(job) for job in _background_jobs(core, certificates)]
            try:
                yield master
            finally:
                await _stop(core, listeners, services, jobs)


def _background_jobs(core: Core, certificates: Certificates) -> Iterator[Coroutine[Any, Any, None]]:
    config, committer, clocks, store = core.config, core.committer, core.clocks, core.store
    supervisor = supervising.Supervisor(core.register, core.links, lambda: core.boards.thresholds, clocks.steady_ms())
    yield background.follow_changes(store.changes, core.reader, core.register, store.viewers, core.hub)
    yield background.expire_callers(store.viewers, clocks)
    yield background.supervise(supervisor, committer, core.links, clocks)
    yield background.touch(committer, core.links, clocks)
    yield background.give_back_memory(core.links)
    yield background.note_uses(committer, core.uses, clocks)
    yield background.renew_certificates(config, clocks, certificates.renew)
    yield background.compact(config, store.database, clocks, core.metrics)
    yield background.judge_windows(store.windows, core.links, core.reader, committer, core.hub, clocks)
    yield background.retain(config, store.database, clocks)
    yield background.note_stream_sizes(committer, clocks)
    yield background.release_alerts(committer, core.reader, clocks)
    yield background.count(core.register, core.metrics)
    yield core.outbox.worker.run()
    yield core.sealer.run()
    yield core.calls.run()
    yield core.tunnels.accounts.run()
    yield core.tunnels.look()
    yield note_deeds(DeedFolder(config.data_dir), committer, clocks)
    yield background.note_trust(lambda: trust_of(core.licences.issuers(), config.openid), committer, clocks)
    yield background.watch_licences(core.licences, core.reader, committer, clocks, core.metrics)


async def _stop(core: Core, listeners: Listeners, services: Services, jobs: list[asyncio.Task[None]]) -> None:
    """Say goodbye to everybody, write down what is left, and end."""
    await services.announce_stop()
    core.stopping.set()
    core.hub.close()
    core.tunnels.book.stop()
    await background.say_goodbye(core.links, core.config.reconnect_spread)
    await asyncio.gather(listeners.link.stop(GRACE_S), *(server.stop(GRACE_S) for server in listeners.all))
    await core.outbox.finish()
    for job in jobs:
        job.cancel()
    await background.write_uses(core.committer, core.uses, core.clocks)
    await core.tunnels.accounts.finish()
    await core.calls.finish()
    await core.sealer.seal()
    await core.committer.stop()
    core.reader.close()
    services.close()
    core.config.endpoints_file.unlink(missing_ok=True)
    log.info("stopped")


def _tell_link(core: Core, tenant: Tenant) -> None:
    core.tunnels.book.tenant_changed(tenant)
    link = core.links.get(tenant.id)
    if link is not None:
        push_changes(link, tenant)
    if tenant.state is TenantState.DELETED:
        core.links.forget(tenant.id)


@contextlib.contextmanager
def _monitoring(config: MasterConfig, metrics: MasterMetrics) -> Iterator[str | None]:
    if config.monitoring_listen is None:
        yield None
        return
    host, port = split_listen(config.monitoring_listen)
    with MetricsServer(metrics.registry, host, port) as server:
        yield server.address


def _write_endpoints(config: MasterConfig, master: RunningMaster) -> None:
    private_directory(config.run_dir)
    listening = {
        "api": master.api_address,
        "link": master.link_address,
        "monitoring": master.monitoring_address,
        "machines": master.machines_address,
        "console": master.console_address,
        "tunnels": master.tunnels_address,
        "relay": master.relay_address,
    }
    write_private(config.endpoints_file, json.dumps(listening).encode())
