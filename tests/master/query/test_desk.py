"""The desk: processes of queries, their turns, and their ends."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.exchange import Message, Order
from tenantry.master.query.limits import QueryLimits
from tenantry.master.query.turns import WAITING_EACH, QueryTurns
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import (
    MasterStopping,
    QueriesTooMany,
    QueryInvalid,
    QueryTimedOut,
    QueryTooLarge,
    StreamNotFound,
)
from tests.master.operations.stored_metrics import register_tenants
from tests.servers.deadlines import PATIENCE_S
from tests.servers.stores import empty_store

NOW = 1_700_000_000_000
LIMITS = QueryLimits(memory=128 << 20, threads=1)
ENDLESS = 'src stream="alerts" | ' + " | ".join(f"unwind many as m{n}" for n in range(12)) + " | aggr count()"
"""Each record becomes 10 ^ 12 rows."""


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[QueryDesk]:
    """A desk over a store with three alerts."""
    dsn = empty_store(tmp_path)
    with Database.open(dsn) as database:
        tenants = register_tenants(database)
        with database.write() as transaction:
            transaction.records.append(
                [
                    NewRecord(StreamName.ALERTS, NOW + n, NOW + n, one.id, {"n": n, "many": [*range(10)]})
                    for n, one in enumerate(tenants)
                ]
            )
        opened = QueryDesk(dsn, tmp_path / "query", LIMITS, 2, 1)
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield opened
        finally:
            await opened.close()


def order(text: str, sight: Sight = EVERYTHING, timeout_ms: int = 60_000) -> Order:
    """An order for a few rows."""
    return Order(text, NOW, "UTC", sight, 100, replace(LIMITS, timeout_ms=timeout_ms))


async def answered(desk: QueryDesk, asked: Order, caller: str = "ada") -> list[Message]:
    """All messages."""
    return [message async for message in desk.run(asked, caller)]


async def begun(before: set[int]) -> set[int]:
    """The processes that are new, once there is one."""
    while not (found := processes() - before):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    return found


async def refused(desk: QueryDesk, asked: Order, kind: type[Exception]) -> None:
    """Wait for the refusal of a query."""
    with pytest.raises(kind):
        await answered(desk, asked)


def processes() -> set[int]:
    """The children of this process that live."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(one) for one in listed}


async def test_processes_answer_are_kept_and_end(desk: QueryDesk) -> None:
    """One process answers one query after the other, also after a wrong one, and is gone with the desk."""
    before = processes()
    count = 'src stream="alerts" | aggr n=count()'
    messages = await answered(desk, order(count))
    mine = processes() - before
    assert [message["columns"] for message in messages if "rows" in message] == [[[3.0]]] and len(mine) == 1
    with pytest.raises(QueryInvalid):
        await answered(desk, order('src stream="alerts" | sort'))
    await answered(desk, order(count, Sight(frozenset(), main=False)))
    assert processes() - before == mine
    with pytest.raises(StreamNotFound):
        await answered(desk, order('src stream="nothing"'))
    await desk.close()
    assert processes() == before
    with pytest.raises(MasterStopping):
        await answered(desk, order(count))


async def test_a_query_that_is_given_up_ends_at_once(desk: QueryDesk) -> None:
    """Its process dies with the call, with its time, and with the desk; the next query finds another."""
    before = processes()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(answered(desk, order(ENDLESS)))
        await begun(before)
        running.cancel()
    assert processes() == before
    with pytest.raises(QueryTimedOut, match=r"0\.2 s"):
        await answered(desk, order(ENDLESS, timeout_ms=200))
    assert processes() == before
    async with aclosing(desk.run(order('src stream="alerts" | project n'), "ada")) as messages:
        assert "result" in await anext(messages)
    assert processes() == before
    async with asyncio.TaskGroup() as group:
        group.create_task(refused(desk, order(ENDLESS), MasterStopping))
        await begun(before)
        await desk.close()
    assert processes() == before


async def test_a_process_that_dies_is_a_query_that_was_too_large(desk: QueryDesk) -> None:
    """The system ends what takes too much; its caller is told what to do, and the next one is served."""
    before = processes()
    async with asyncio.TaskGroup() as group:
        group.create_task(refused(desk, order(ENDLESS), QueryTooLarge))
        os.kill((await begun(before)).pop(), 9)
    assert (await answered(desk, order('src stream="alerts"')))[-1]["end"]["counts"] == [3]


def test_the_master_loads_no_engine() -> None:
    """What serves queries brings neither DuckDB nor Arrow into the Master's own process."""
    code = "import sys, tenantry.master.bootstrap; print([one for one in ('duckdb', 'pyarrow') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_turns_are_shared() -> None:
    """Two at once, one of each caller; a third caller waits for a turn and not for the first one's queue."""
    turns, began = QueryTurns(2, 1), []
    leave = {name: asyncio.Event() for name in ("ada 1", "ada 2", "bob", "eve")}

    async def take(name: str) -> None:
        async with turns.turn(name.partition(" ")[0]):
            began.append(name)
            await leave[name].wait()

    async with asyncio.TaskGroup() as group:
        for name in leave:
            group.create_task(take(name))
        for name, expected in (
            ("ada 1", ["ada 1", "bob"]),
            ("bob", ["ada 1", "bob", "eve"]),
            ("eve", ["ada 1", "bob", "eve", "ada 2"]),
        ):
            for _ in range(20):
                await asyncio.sleep(0)
            assert sorted(began) == sorted(expected)
            leave[name].set()
        leave["ada 2"].set()


async def test_nobody_piles_up_queries() -> None:
    """So many of one caller wait; more are refused at once, and others are not concerned."""
    turns, there = QueryTurns(1, 1), asyncio.Event()

    async def take() -> None:
        async with turns.turn("ada"):
            await there.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(1 + WAITING_EACH):
            group.create_task(take())
        await asyncio.sleep(0)
        with pytest.raises(QueriesTooMany):
            await take()
        there.set()
    async with asyncio.timeout(PATIENCE_S), turns.turn("bob"):
        pass


async def test_steps_of_what_is_followed(desk: QueryDesk) -> None:
    """Records at hand are worked out without the store: none and some."""
    asked = order('src stream="alerts" | where n > 0 | project n, tenantName')
    tenants: list[list[Any]] = [[1, "guid", "acme", "one"]]
    rows: list[list[Any]] = [[NOW, NOW, 1, {"n": 0}], [NOW, NOW, 1, {"n": 1}], [NOW, NOW, None, {"n": 2}]]
    first, last = await desk.evaluate(asked, [], [])
    assert [name for name, _ in first["columns"]] == ["n", "tenantName"] and "end" in last
    _, kept, _ = await desk.evaluate(asked, tenants, rows)
    assert sorted(zip(*kept["columns"], strict=True), key=str) == [("1", "acme"), ("2", None)]
    seen = order(asked.text, Sight(frozenset({2}), main=False))
    assert not [one for one in await desk.evaluate(seen, tenants, rows) if "rows" in one]
    metrics = order('src stream="metricsMaster" | where labels.cpu = "0" and value > 0.5 | project value, metric')
    sample = {"metric": "load", "unit": "1", "kind": "gauge", "labels": {"cpu": "0"}}
    samples: list[list[Any]] = [[NOW, NOW, 1, {**sample, "value": value}] for value in (0.25, 0.75, "Infinity")]
    _, kept, _ = await desk.evaluate(metrics, tenants, samples)
    assert kept["columns"][1] == ["load", "load"] and kept["columns"][0][0] == 0.75
