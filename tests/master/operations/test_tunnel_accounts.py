"""The ends of tunnels are written down, however the store fails, and nothing is said to be durable that is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.tunnels import accounts
from tenantry.master.operations.tunnels.accounts import SYSTEM_OF_TUNNELS, TunnelAccounts, ended_tunnel, over
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import InternalFault, StoreUnavailable
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState

T = TypeVar("T")
PATIENCE_S = 20.0
ACTOR = Actor("operator", "ada", "192.0.2.1:1")


class FailingCommitter:
    """Runs work on a store, after as many failures as it was told of; which tunnels each attempt was about."""

    def __init__(self, database: Database, *troubles: Exception, lost_answers: int = 0) -> None:
        self.database = database
        self.troubles = list(troubles)
        self.lost_answers = lost_answers
        self.poison: NewRecord | None = None
        self.attempts = 0

    async def run(self, function: Callable[[Transaction], T]) -> T:
        """As the true one."""
        self.attempts += 1
        if self.troubles:
            raise self.troubles.pop(0)
        with self.database.write() as transaction:
            found = function(_Poisoned(transaction, self.poison))  # type: ignore[arg-type]
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable(cause="the answer to COMMIT was lost")
        return found


class _Poisoned:
    """A transaction that does not take one record."""

    def __init__(self, transaction: Transaction, poison: NewRecord | None) -> None:
        self.tunnels = transaction.tunnels
        self.records = self
        self._records = transaction.records
        self._poison = poison

    def append(self, records: list[NewRecord]) -> None:
        """Keep them."""
        if any(record is self._poison for record in records):
            raise ValueError("a record that no store takes")
        self._records.append(records)


def tunnel(tunnel_id: str) -> Tunnel:
    """One that is open at Tenant 1."""
    return Tunnel(tunnel_id, 1, "ada", 1, "192.0.2.1:1", (), "", TunnelState.OPEN, 1_000, 9_000, 1_000, opened_ms=2_000)


def end_of(tunnel_id: str) -> tuple[Tunnel, NewRecord]:
    """The same, ended, and the record of it."""
    ended = ended_tunnel(tunnel(tunnel_id), TunnelEnd.IDLE, "", 3_000)
    return ended, over(ACTOR, ended, SYSTEM_OF_TUNNELS, "guid")


def unfinished(database: Database) -> list[str]:
    """Tunnels without an end in the store."""
    with database.read() as transaction:
        return [one.id for one in transaction.tunnels.unfinished()]


def audited(database: Database) -> int:
    """How many ends the audit has."""
    with database.read() as transaction:
        return len(transaction.records.after(StreamName.AUDIT_MESSAGES, 0, 100))


@asynccontextmanager
async def at_work(committer: FailingCommitter) -> AsyncIterator[TunnelAccounts]:
    """Accounts that write, of two tunnels in the store."""
    with committer.database.write() as transaction:
        for tunnel_id in ("one", "two"):
            transaction.tunnels.insert(tunnel(tunnel_id))
    fake: Any = committer
    account = TunnelAccounts(fake)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        running = group.create_task(account.run())
        yield account
        running.cancel()


@pytest.mark.parametrize(
    "trouble", [StoreUnavailable(cause="away"), InternalFault(request_id="committer"), RuntimeError("whatever")]
)
async def test_an_end_is_written_again_until_it_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """Whatever the failure is; and only then it is called durable."""
    monkeypatch.setattr(accounts, "_AGAIN_S", 0.0)
    committer, said = FailingCommitter(database, trouble, trouble), asyncio.Event()

    def written() -> None:
        assert unfinished(database) == ["two"]
        said.set()

    async with at_work(committer) as account:
        account.close(*end_of("one"), written)
        await said.wait()
    assert committer.attempts == 3
    assert audited(database) == 1


async def test_an_end_that_was_written_unheard_is_not_told_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to COMMIT was lost: the audit has one record all the same."""
    monkeypatch.setattr(accounts, "_AGAIN_S", 0.0)
    said = asyncio.Event()
    async with at_work(FailingCommitter(database, lost_answers=1)) as account:
        account.close(*end_of("one"), said.set)
        await said.wait()
    assert audited(database) == 1


async def test_what_cannot_be_written_holds_nobody_up_and_is_never_called_durable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two ends one is refused by the store for a while: the other one is written meanwhile."""
    monkeypatch.setattr(accounts, "_AGAIN_S", 0.0)
    committer, told = FailingCommitter(database), {name: asyncio.Event() for name in ("one", "two")}
    async with at_work(committer) as account:
        for name in ("one", "two"):
            ended, record = end_of(name)
            committer.poison = committer.poison or record
            account.close(ended, record, told[name].set)
        await told["two"].wait()
        assert not told["one"].is_set()
        assert unfinished(database) == ["one"]
        committer.poison = None
        await told["one"].wait()
    assert unfinished(database) == []
    assert audited(database) == 2
