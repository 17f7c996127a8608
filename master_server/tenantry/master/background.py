"""What runs beside the listeners for as long as a Master runs: each a loop with one task."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from tenantry.master.config import MasterConfig
from tenantry.master.domain.access import EVERYTHING
from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations import licensing, supervising, trusting
from tenantry.master.operations.alert_releasing import release_muted
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.operations.following import ALERT_CHANGES, StreamHub
from tenantry.master.operations.licensing import LicenceBook
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.retaining import Retainer
from tenantry.master.operations.sessions import TokenUses
from tenantry.master.operations.trusting import LOCAL_FILES, Trust
from tenantry.master.operations.usage_history import note_sizes
from tenantry.master.operations.viewers import SignedIn, ViewerDirectory, load_signed_in
from tenantry.master.operations.window_judging import WindowJudge
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.chunks import ChunkTotals
from tenantry.master.sql.database import Database
from tenantry.master.sql.segments import SegmentTotals
from tenantry.master.sql.transaction import Transaction
from tenantry.process.memory import give_back
from tenantry.protocol.failures import Failure
from tenantry.protocol.messages import Goodbye, GoodbyeReason

SUPERVISION_S = 1.0
TOUCH_S = 30.0
USES_S = 60.0
CERTIFICATE_CHECK_S = 60.0
RETENTION_S = 60.0
SIZES_S = 600.0
WINDOWS_S = 1.0
WINDOWS_PAUSE_S = 0.2
"""A round costs a look into the store, whether or not much has come."""
RELEASE_S = 2.0
STORM_LINKS = 100
STORM_OVER_S = 2.0
ROUNDS_AFTER_STORM = 10
COUNT_S = 10.0
LICENCE_S = 10.0
TRUST_S = 2.0
GOODBYE_S = 5.0
RETURN_MS = 2_000
"""What a restart takes at least: who comes earlier finds nobody."""

log = structlog.get_logger()


async def follow_changes(
    changes: "asyncio.Queue[Changes]",
    reader: StoreReader,
    register: TenantRegister,
    viewers: ViewerDirectory,
    hub: StreamHub,
) -> None:
    """After each commit: the register and what callers may do are brought up to date, followers are woken."""
    while True:
        changed = await changes.get()
        tenants, streams, users = dict(changed.tenants), set(changed.streams), set(changed.users)
        privacy, alerts = changed.privacy, changed.alerts
        while not changes.empty():
            more = changes.get_nowait()
            tenants.update(more.tenants)
            streams |= more.streams
            users |= more.users
            privacy |= more.privacy
            alerts |= more.alerts
        hub.notify([*streams, *([ALERT_CHANGES] if alerts else [])])
        announced = viewers.announced
        register.refresh(tenants.values())
        if users or privacy:
            try:
                signed_in = await reader.run(partial(_load, sorted(users)), EVERYTHING) if users else []
            except Failure as failure:
                log.error("callers not refreshed; trying again", reason=failure.reason)
                changes.put_nowait(Changes({}, frozenset(), users=frozenset(users), privacy=privacy))
                await asyncio.sleep(SUPERVISION_S)
            else:
                viewers.refresh(signed_in, announced, privacy=privacy)


def _load(user_ids: list[int], transaction: Transaction) -> list[SignedIn]:
    return load_signed_in(transaction, user_ids)


async def expire_callers(viewers: ViewerDirectory, clocks: Clocks) -> None:
    """End the calls of those whose session, token or certificate has come to its end."""
    while True:
        await asyncio.sleep(SUPERVISION_S)
        viewers.expire(clocks.wall_ms())


async def supervise(
    supervisor: supervising.Supervisor, committer: Committer, links: LinkDirectory, clocks: Clocks
) -> None:
    """Find the silent, and end links whose certificate has come to its end."""
    while True:
        await asyncio.sleep(SUPERVISION_S)
        wall_ms = clocks.wall_ms()
        for link in links:
            if wall_ms >= link.not_after_ms:
                link.expire(wall_ms)
        due = supervisor.due(clocks.steady_ms(), wall_ms)
        if due:
            with contextlib.suppress(Failure):  # said by the committer already; the next round finds them again
                await committer.run(partial(supervising.change_connectivity, changes=due, now_ms=wall_ms))


async def touch(committer: Committer, links: LinkDirectory, clocks: Clocks) -> None:
    """Write down now and then when each Tenant was heard, so that a restart knows it about."""
    while True:
        await asyncio.sleep(TOUCH_S)
        offset = clocks.wall_ms() - clocks.steady_ms()
        heard = [(link.tenant_id, link.heard_ms + offset) for link in links]
        if heard:
            with contextlib.suppress(Failure):
                await committer.run(partial(_write_heard, heard))


def _write_heard(heard: list[tuple[int, int]], transaction: Transaction) -> None:
    transaction.tenants.touch(heard)


async def note_uses(committer: Committer, uses: TokenUses, clocks: Clocks) -> None:
    """Write down every minute which tokens were used."""
    while True:
        await asyncio.sleep(USES_S)
        await write_uses(committer, uses, clocks)


async def write_uses(committer: Committer, uses: TokenUses, clocks: Clocks) -> None:
    """Write down which tokens were used since it was done last."""
    due = uses.take(clocks.wall_ms())
    if due:
        try:
            await committer.run(lambda transaction: transaction.tokens.touch(due))
        except Failure:  # said by the committer already
            uses.failed(due)


async def renew_certificates(config: MasterConfig, clocks: Clocks, renew: Callable[[], None]) -> None:
    """The listeners' certificate is issued anew after two thirds of its life."""
    due_ms = clocks.wall_ms() + config.server_certificate_lifetime * 2 // 3
    while True:
        await asyncio.sleep(min(CERTIFICATE_CHECK_S, config.server_certificate_lifetime / 10_000))
        if clocks.wall_ms() >= due_ms:
            renew()
            due_ms = clocks.wall_ms() + config.server_certificate_lifetime * 2 // 3


async def count(register: TenantRegister, metrics: MasterMetrics) -> None:
    """Tell the Master's own metrics how many Tenants there are."""
    while True:
        metrics.set_tenants(
            Counter(tenant.state for tenant in register),
            Counter(tenant.connectivity for tenant in register),
            sum(tenant.quarantine is not None for tenant in register),
        )
        await asyncio.sleep(COUNT_S)


async def watch_licences(
    book: LicenceBook, reader: StoreReader, committer: Committer, clocks: Clocks, metrics: MasterMetrics
) -> None:
    """Tell the Master's own metrics what the licence allows, and its operators when it comes to its end."""
    while True:
        now_ms = clocks.wall_ms()
        with contextlib.suppress(Failure):
            standing, due = await reader.run(partial(_look_at_licences, book, now_ms), EVERYTHING)
            active = standing.active
            metrics.set_licence(
                end_ms=0 if active is None else standing.covered_until_ms,
                limit=0 if active is None else active.tenants,
                used=standing.used,
            )
            if due:
                await committer.run(partial(licensing.warn, warnings=due, now_ms=now_ms))
        await asyncio.sleep(LICENCE_S)


def _look_at_licences(
    book: LicenceBook, now_ms: int, transaction: Transaction
) -> tuple[licensing.Standing, tuple[licensing.EndWarning, ...]]:
    standing = book.standing(transaction, now_ms)
    return standing, licensing.due_warnings(transaction, book, standing, now_ms)


async def note_trust(look: Callable[[], Trust], committer: Committer, clocks: Clocks) -> None:
    """Write down when the files say that others are trusted than before, by a command or by hand, also while nothing ran."""
    noted: Trust | None = None
    while True:
        with contextlib.suppress(Failure):  # a file that is damaged is told to whoever asks for a licence
            trust = look()
            if trust != noted:
                now_ms = clocks.wall_ms()
                await committer.run(partial(trusting.note_trust, actor=LOCAL_FILES, trust=trust, now_ms=now_ms))
                noted = trust
        await asyncio.sleep(TRUST_S)


async def give_back_memory(links: LinkDirectory) -> None:
    """After many links have opened, and none for a moment: what handshakes and the first batches left goes back to the system."""
    counted = before = links.opened
    rounds = 0
    while True:
        await asyncio.sleep(STORM_OVER_S)
        opened = links.opened
        if opened - counted >= STORM_LINKS:
            counted, rounds = opened, ROUNDS_AFTER_STORM
        if rounds and opened == before:
            rounds -= 1
            await asyncio.to_thread(give_back)
        before = opened


async def say_goodbye(links: LinkDirectory, spread_ms: int) -> None:
    """Tell every daemon when to come back, each at a moment of its own; wait until they have gone."""
    count = max(1, len(links))
    for place, link in enumerate(links):
        slot_ms = RETURN_MS + int(spread_ms * (place + random.random()) / count)  # noqa: S311 - spreads load, guards nothing
        link.dismiss(Goodbye(GoodbyeReason.RESTART, retry_after_ms=slot_ms))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_S):
            await links.empty.wait()


async def compact(config: MasterConfig, database: Database, clocks: Clocks, metrics: MasterMetrics) -> None:
    """Pack stored metrics for good, a small step at a time; at once again while there is more to do."""
    settings = config.compaction
    compactor = Compactor(
        CompactionPolicy(window_ms=settings.age, window_bytes=settings.size, ticks_per_chunk=settings.ticks)
    )

    def step() -> bool:
        started_ms = clocks.steady_ms()
        segments, chunks = _stored(database)
        more = compactor.step(database, clocks.wall_ms())
        segments_left, chunks_now = _stored(database)
        metrics.set_compaction_backlog(segments_left.bytes)
        if chunks_now.samples > chunks.samples:
            metrics.compaction_done(
                segment_bytes=max(0, segments.bytes - segments_left.bytes),
                chunk_bytes=chunks_now.bytes - chunks.bytes,
                samples=chunks_now.samples - chunks.samples,
                seconds=(clocks.steady_ms() - started_ms) / 1000,
            )
        return more

    await _repeat("compaction", settings.interval / 1000, step)


def _stored(database: Database) -> tuple[SegmentTotals, ChunkTotals]:
    with database.read() as transaction:
        return transaction.segments.totals(), transaction.chunks.totals()


async def retain(config: MasterConfig, database: Database, clocks: Clocks) -> None:
    """Erase what is older than its stream's retention, a small step at a time."""
    retainer = Retainer({stream: kept for stream, kept in config.retention.items() if kept is not None})
    await _repeat("retention", RETENTION_S, lambda: retainer.step(database, clocks.wall_ms()))


async def judge_windows(
    judge: WindowJudge,
    links: LinkDirectory,
    reader: StoreReader,
    committer: Committer,
    hub: StreamHub,
    clocks: Clocks,
) -> None:
    """Rules over windows follow the streams: at once where one of these grows, and by the clock."""

    def look(transaction: Transaction) -> bool:
        return judge.look(transaction, links.caught_up, clocks.wall_ms())

    while True:
        if judge.idle:
            await asyncio.sleep(WINDOWS_S)
            continue
        with hub.watch(*judge.streams) as grown, contextlib.suppress(Failure):  # the next round finds it again
            while await reader.run(look, EVERYTHING):
                await _settle(judge, committer, clocks)
            await _settle(judge, committer, clocks)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WINDOWS_S):
                    await grown.wait()
        await asyncio.sleep(WINDOWS_PAUSE_S)


async def _settle(judge: WindowJudge, committer: Committer, clocks: Clocks) -> None:
    if not judge.due:
        return
    try:
        await committer.run(lambda transaction: judge.settle(transaction, clocks.wall_ms()), patient=True)
    except BaseException:
        judge.refused()
        raise
    judge.committed()


async def note_stream_sizes(committer: Committer, clocks: Clocks) -> None:
    """Write down a few times a day how large the streams are."""
    while True:
        with contextlib.suppress(Failure):  # said by the committer already
            await committer.run(partial(note_sizes, now_ms=clocks.wall_ms()), patient=True)
        await asyncio.sleep(SIZES_S)


async def release_alerts(committer: Committer, reader: StoreReader, clocks: Clocks) -> None:
    """When maintenance windows are over: act on what they muted and what still stands."""
    while True:
        with contextlib.suppress(Failure):  # said by the committer already
            due_ms = await reader.run(lambda transaction: transaction.alerts.next_unmuting(), EVERYTHING)
            more = due_ms is not None and due_ms <= clocks.wall_ms()
            while more:
                more = await committer.run(lambda transaction: release_muted(transaction, clocks.wall_ms()))
        await asyncio.sleep(RELEASE_S)


async def _repeat(name: str, interval_s: float, step: Callable[[], bool]) -> None:
    """Run steps in a thread, with a pause when one says that there is nothing more to do, or fails."""
    while True:
        more = False
        try:
            more = await asyncio.to_thread(step)
        except Failure as failure:
            log.error("background step failed", job=name, reason=failure.reason)
        await asyncio.sleep(0 if more else interval_s)
