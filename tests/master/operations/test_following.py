import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.operations import following
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.operations.following import Run, StreamHub, TailStep, follow, open_tail
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import make_filter
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, MasterStopping
from tests.master.operations.stored_metrics import commit, frame, guid_of

DEADLINE_S = 60
ALERTS = frozenset({StreamName.ALERTS})


def append(database: Database, *numbers: int, tenant_id: int = 1) -> None:
    """Alerts with these numbers."""
    with database.write() as transaction:
        transaction.records.append([NewRecord(StreamName.ALERTS, 1_000 - n, n, tenant_id, {"n": n}) for n in numbers])


def runner(database: Database) -> Run:
    """Reads in threads, as the servicer does."""

    def read(function: Callable[[Transaction], TailStep]) -> TailStep:
        with database.read() as transaction:
            return function(transaction)

    def run(function: Callable[[Transaction], TailStep]) -> Awaitable[TailStep]:
        return asyncio.to_thread(read, function)

    return run


def start(
    hub: StreamHub,
    database: Database,
    stream: str = "alerts",
    cursor: str = "",
    backlog: int = 0,
    guids: tuple[str, ...] = (),
) -> AsyncGenerator[TailStep, None]:
    """A follower."""
    wanted = make_filter(stream, guids)
    return follow(hub, wanted.stream, open_tail(wanted, cursor, backlog, LayoutCache()), runner(database))


async def take(steps: AsyncGenerator[TailStep, None]) -> TailStep:
    """The next step."""
    return await asyncio.wait_for(anext(steps), DEADLINE_S)


def numbers(step: TailStep) -> list[object]:
    """Which alerts a step brings."""
    return [one.fields["n"] for one in step.records]


async def test_the_first_step_comes_at_once(database: Database) -> None:
    """Empty without a backlog: what was there before is not sent, what comes after is."""
    hub = StreamHub()
    append(database, 1, 2)
    steps = start(hub, database)
    assert numbers(await take(steps)) == []
    append(database, 3, 4)
    hub.notify(ALERTS)
    assert numbers(await take(steps)) == [3, 4]
    await steps.aclose()


async def test_a_backlog_comes_in_the_order_of_storing(database: Database) -> None:
    """The newest ones, oldest of them first."""
    append(database, 1, 2, 3, 4)
    steps = start(StreamHub(), database, backlog=3)
    assert numbers(await take(steps)) == [2, 3, 4]
    await steps.aclose()


async def test_a_cursor_misses_nothing(database: Database) -> None:
    """Whoever comes back goes on where they were, also in the middle of a step."""
    append(database, 1, 2)
    steps = start(StreamHub(), database)
    cursor = (await take(steps)).cursor
    await steps.aclose()
    append(database, 3, 4, 5)
    steps = start(StreamHub(), database, cursor=cursor)
    step = await take(steps)
    assert numbers(step) == [3, 4, 5]
    await steps.aclose()
    steps = start(StreamHub(), database, cursor=step.records[0].cursor)
    assert numbers(await take(steps)) == [4, 5]
    await steps.aclose()


async def test_what_comes_during_a_read_is_not_missed(database: Database) -> None:
    """A commit between the look into the store and the wait wakes the follower up."""
    hub = StreamHub()
    tail = open_tail(make_filter("alerts"), "", 0, LayoutCache())
    run = runner(database)
    looks = 0

    async def run_and_append(function: Callable[[Transaction], TailStep]) -> TailStep:
        nonlocal looks
        step = await run(function)
        looks += 1
        if looks <= 2:
            append(database, looks)
            hub.notify(ALERTS)
        return step

    steps = follow(hub, StreamName.ALERTS, tail, run_and_append)
    await take(steps)
    assert numbers(await take(steps)) == [1]
    assert numbers(await take(steps)) == [2]
    await steps.aclose()


async def test_a_slow_follower_costs_the_others_nothing(database: Database) -> None:
    """One that does not read neither holds up another one nor gathers anything, and finds all in the store later."""
    hub = StreamHub()
    slow, quick = start(hub, database), start(hub, database)
    await take(slow)
    await take(quick)
    for n in range(20):
        append(database, n)
        hub.notify(ALERTS)
        assert numbers(await take(quick)) == [n]
    assert numbers(await take(slow)) == list(range(20))
    await slow.aclose()
    await quick.aclose()


async def test_other_streams_and_other_tenants_do_not_show(database: Database) -> None:
    """A follower of one Tenant sees its records alone."""
    hub = StreamHub()
    steps = start(hub, database, guids=(guid_of(2),))
    await take(steps)
    append(database, 1, tenant_id=1)
    append(database, 2, tenant_id=2)
    hub.notify(frozenset(StreamName))
    assert numbers(await take(steps)) == [2]
    await steps.aclose()


async def test_closing_the_hub_ends_followers(database: Database) -> None:
    """Those that wait, and those that come later."""
    hub = StreamHub()
    steps = start(hub, database)
    await take(steps)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_ends(steps))
        await asyncio.sleep(0)
        hub.close()
    assert waiting.result()
    with pytest.raises(MasterStopping):
        await take(start(hub, database))


async def _ends(steps: AsyncGenerator[TailStep, None]) -> bool:
    with pytest.raises(MasterStopping):
        await take(steps)
    return True


async def test_samples_come_once_across_compaction(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps in the middle of a commit, before and after it became chunks."""
    monkeypatch.setattr(following, "RECORDS_A_STEP", 2)
    hub = StreamHub()
    steps = start(hub, database, "metricsMaster")
    cursor = (await take(steps)).cursor
    commit(database, [frame(tenant, 2, 100, [(7, (1.0, 2.0, 3.0))]) for tenant in (2, 1)])
    hub.notify(frozenset({StreamName.METRICS_MASTER}))
    first = await take(steps)
    await steps.aclose()
    Compactor(CompactionPolicy(window_ms=0)).step(database, 1_000)
    commit(database, [frame(3, 1, 200, [(1, (9.0,))])])
    steps = start(hub, database, "metricsMaster", first.cursor)
    rest = [one for _ in range(3) for one in (await take(steps)).records]
    await steps.aclose()
    found = [*first.records, *rest]
    assert [(one.tenant and one.tenant.guid, one.fields["value"]) for one in found] == [
        *((guid_of(1), value) for value in (1.0, 2.0, 3.0)),
        *((guid_of(2), value) for value in (1.0, 2.0, 3.0)),
        (guid_of(3), 9.0),
    ]
    steps = start(hub, database, "metricsMaster", cursor)
    assert [one.cursor for one in (await take(steps)).records] == [one.cursor for one in found[:2]]
    await steps.aclose()


@pytest.mark.parametrize("stream", ["alerts", "metricsMaster"])
@pytest.mark.parametrize("cursor", ["x", "=", "é", "AAAA", "A" * 500, "a b"])
def test_garbage_is_no_cursor(stream: str, cursor: str) -> None:
    """It is refused before anything is read."""
    with pytest.raises(FieldInvalid, match="after_cursor"):
        open_tail(make_filter(stream), cursor, 0, LayoutCache())


def test_what_a_tail_cannot_do_is_refused() -> None:
    """A negative or too large backlog, a backlog beside a cursor, times."""
    wanted = make_filter("alerts")
    for backlog in (-1, 10_001):
        with pytest.raises(FieldInvalid, match="backlog"):
            open_tail(wanted, "", backlog, LayoutCache())
    with pytest.raises(FieldInvalid, match="backlog"):
        open_tail(wanted, "AAAAAAAAAAA", 1, LayoutCache())
    for times in ((1, None), (None, 1)):
        with pytest.raises(FieldInvalid, match="start_time"):
            open_tail(make_filter("alerts", (), *times), "", 0, LayoutCache())
