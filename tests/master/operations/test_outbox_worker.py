"""What sends, with senders that are told how to fail: fair, bounded, and never without writing down what came of it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.delivering.outgoing import Outgoing
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.deliveries import Attempt, DeliveryFilter, DeliveryState
from tenantry.master.domain.receivers import Receiver, ReceiverKind, WebhookSettings
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.outbox import write_content
from tenantry.master.operations.outbox_worker import OutboxTerms, OutboxWorker
from tenantry.master.operations.sealing import receivers_seal
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import StoreUnavailable
from tests.master.delivering.outgoings import notice
from tests.servers.deadlines import eventually
from tests.servers.stores import empty_store
from tests.suites.conftest import NOW, new_tenant
from tests.suites.outbox_rows import new_delivery, receiver_draft

Behaviour = Callable[[Outgoing], Attempt | None]
"""How a sender behaves: None hangs until the test is over."""


@dataclass
class FakeSender:
    """Takes everything, or what the test says."""

    behave: Behaviour = lambda _outgoing: Attempt(True, "taken")
    sent: list[Outgoing] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    async def send(self, outgoing: Outgoing) -> Attempt:
        """One attempt."""
        self.sent.append(outgoing)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            attempt = self.behave(outgoing)
            if attempt is None:
                await asyncio.Event().wait()
            return attempt or Attempt(False, "")
        finally:
            self.under_way -= 1

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class FakeCommitter:
    """Writes in a thread; ``refusals`` writes are refused first."""

    database: Database
    refusals: int = 0

    async def run(self, function: Callable[[Any], Any], *, patient: bool = False) -> Any:
        """The function's result, after COMMIT."""
        assert patient
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable(cause="test")

        def write() -> Any:
            with self.database.write() as transaction:
                return function(transaction)

        return await asyncio.to_thread(write)


@dataclass
class Figures:
    """What the worker tells."""

    attempts: Counter[tuple[ReceiverKind, bool, bool]] = field(default_factory=Counter)
    waiting: int = -1
    died: int = 0

    def attempt_made(self, kind: ReceiverKind, *, taken: bool, dead: bool) -> None:
        """Counted."""
        self.attempts[kind, taken, dead] += 1

    def set_waiting(self, count: int, oldest_seconds: float) -> None:
        """Kept."""
        assert oldest_seconds >= 0
        self.waiting = count

    def deliveries_died(self, count: int) -> None:
        """Counted."""
        self.died += count


@dataclass
class Post:
    """An outbox with a Tenant, and what sends."""

    database: Database
    sender: FakeSender
    committer: FakeCommitter
    figures: Figures
    tenant_id: int
    steady_ms: int = 0
    wall_ms: int = NOW
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    looks_begun: int = 0
    looks_ended: int = 0

    def receiver(self, uid: str, owner: int = MAIN_OWNER) -> Receiver:
        """A new receiver."""
        with self.database.write() as transaction:
            draft = receiver_draft(uid, WebhookSettings(f"https://{uid}.example/"))
            return transaction.receivers.insert(uid, draft, {}, NOW, owner=owner)

    def tell(self, receiver: Receiver, count: int, **values: Any) -> None:
        """Let so many wait for it."""
        content = write_content(notice())
        with self.database.write() as transaction:
            first = len(transaction.deliveries.page(DeliveryFilter(), None, 100_000))
            transaction.deliveries.insert(
                [
                    new_delivery(
                        f"{receiver.uid}-{first + number}", receiver, self.tenant_id, content=content, **values
                    )
                    for number in range(count)
                ]
            )
        self.wake.set()

    def turn(self, milliseconds: int) -> None:
        """Let time pass."""
        self.steady_ms += milliseconds
        self.wall_ms += milliseconds
        self.wake.set()

    def states(self, receiver: Receiver) -> Counter[str]:
        """How many deliveries are in which state."""
        with self.database.read() as transaction:
            found = transaction.deliveries.page(DeliveryFilter(receiver=receiver.uid), None, 100_000)
        return Counter(one.state.value for one in found)

    async def idle_after_a_look(self, worker: OutboxWorker) -> None:
        """Wait until the worker has looked at what is due once more, as time is now, and has done all of it."""
        begun = self.looks_begun
        await eventually(lambda: self.looks_ended > begun and worker._idle.is_set(), "a look that ends")

    async def written(self, attempts: int) -> None:
        """Wait until what came of so many attempts is in the store."""
        await eventually(lambda: self.figures.attempts.total() == attempts, f"{attempts} attempts")

    async def settled(self, receiver: Receiver, **wanted: int) -> None:
        """Wait until so many are in these states."""
        await eventually(lambda: self.states(receiver) == Counter(wanted), f"{wanted} at {receiver.uid}")

    @contextlib.asynccontextmanager
    async def working(self, concurrency: int = 4, per_owner: int = 2) -> AsyncIterator[OutboxWorker]:
        """The worker at work."""

        async def read(function: Callable[[Any], Any]) -> Any:
            def inside() -> Any:
                with self.database.read() as transaction:
                    return function(transaction)

            self.looks_begun += 1
            number = self.looks_begun
            found = await asyncio.to_thread(inside)
            self.looks_ended = max(self.looks_ended, number)
            return found

        worker = OutboxWorker(
            self.committer,  # type: ignore[arg-type]  # all of it that is used
            read,
            self.sender,  # type: ignore[arg-type]  # all of it that is used
            receivers_seal(b"k" * 32),
            Clocks(lambda: self.wall_ms, lambda: self.steady_ms),
            OutboxTerms(concurrency, per_owner, lifetime_ms=86_400_000, kept_ms=3_600_000),
            self.figures,
            self.wake,
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(worker.run())
            try:
                yield worker
            finally:
                task.cancel()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    """An empty one on SQLite."""
    with Database.open(empty_store(tmp_path)) as database:
        with database.write() as transaction:
            tenant_id = transaction.tenants.insert(new_tenant(1)).id
        yield Post(database, FakeSender(), FakeCommitter(database), Figures(), tenant_id)


async def test_what_waits_is_sent_in_its_order(post: Post) -> None:
    """One after the other to one receiver, and the outcome is written."""
    receiver = post.receiver("a")
    post.tell(receiver, 20)
    async with post.working():
        await post.settled(receiver, delivered=20)
    assert [one.key for one in post.sender.sent] == [f"a-{number}" for number in range(20)]
    assert post.sender.most == 1
    assert post.figures.attempts == {(ReceiverKind.WEBHOOK, True, False): 20}


async def test_receivers_that_hang_delay_nobody(post: Post) -> None:
    """As many as there are, of as many owners: another one gets everything; and places are bounded."""
    hanging = [post.receiver(f"h{number}", owner=number % 3 or MAIN_OWNER) for number in range(12)]
    sound = post.receiver("sound", owner=7)
    post.sender.behave = lambda one: Attempt(True, "taken") if "sound" in one.settings.destination.host else None
    for one in hanging:
        post.tell(one, 3)
    async with post.working(concurrency=8, per_owner=2):
        await eventually(lambda: post.sender.under_way == 6, "all that hang")
        post.tell(sound, 30)
        await post.settled(sound, delivered=30)
        assert post.sender.under_way == 6, "two of each owner"


async def test_a_receiver_that_fails_rests_and_comes_back(post: Post) -> None:
    """Nothing of it is tried meanwhile; longer each time; all of it arrives, each under one key."""
    failing = iter([Attempt(False, "HTTP 500"), Attempt(False, "HTTP 503", wish_ms=60_000)])
    post.sender.behave = lambda _one: next(failing, Attempt(True, "taken"))
    receiver = post.receiver("a")
    post.tell(receiver, 3)
    async with post.working() as worker:
        await post.written(1)
        post.turn(2_000)
        await post.idle_after_a_look(worker)
        assert len(post.sender.sent) == 1, "it rests for half of 5 s at least"
        post.turn(5_000)
        await post.written(2)
        post.turn(50_000)
        await post.idle_after_a_look(worker)
        assert len(post.sender.sent) == 2, "it asked for a minute"
        post.turn(15_000)
        await post.settled(receiver, delivered=3)
    assert Counter(one.key for one in post.sender.sent) == {"a-0": 2, "a-1": 2, "a-2": 1}


async def test_what_cannot_be_sent_is_dead_and_stands_in_nobodys_way(post: Post) -> None:
    """Refused for good, or its content makes no JSON of the template; the receiver goes on."""
    receiver = post.receiver("a")
    post.tell(receiver, 3)
    post.sender.behave = lambda one: Attempt(one.key != "a-1", "HTTP 422", permanent=True)
    async with post.working():
        await post.settled(receiver, delivered=2, dead=1)


async def test_what_has_waited_too_long_is_given_up(post: Post) -> None:
    """Of a receiver that rests and of one that never takes anything; what ended long ago is erased."""
    rests = post.receiver("rests")
    with post.database.write() as transaction:
        draft = receiver_draft("rests", WebhookSettings("https://rests.example/"), active=False)
        transaction.receivers.save(type(rests)(rests.id, rests.uid, rests.owner, draft, {}, 2, NOW, NOW))
    post.tell(rests, 600)
    post.wall_ms += 90_000_000
    async with post.working():
        await post.settled(rests, dead=600)
        assert post.figures.died == 600
        assert post.sender.sent == []
    post.wall_ms += 7_200_000
    async with post.working():
        await post.settled(rests)


async def test_an_outcome_is_written_until_it_is(post: Post) -> None:
    """A store that refuses it for a while makes nothing be sent again."""
    receiver = post.receiver("a")
    post.committer.refusals = 1
    post.tell(receiver, 1)
    async with post.working():
        await post.settled(receiver, delivered=1)
    assert len(post.sender.sent) == 1


async def test_a_bug_at_one_receiver_ends_no_other(post: Post) -> None:
    """What nobody thought of is that receiver's trouble."""
    broken, sound = post.receiver("broken"), post.receiver("sound")

    def behave(one: Outgoing) -> Attempt:
        if "broken" in one.settings.destination.host:
            raise ZeroDivisionError
        return Attempt(True, "taken")

    post.sender.behave = behave
    post.tell(broken, 1)
    post.tell(sound, 5)
    async with post.working():
        await post.settled(sound, delivered=5)
        assert post.states(broken) == {DeliveryState.WAITING.value: 1}


async def test_what_waits_stays_in_the_store(post: Post) -> None:
    """Of 5,000 one is read while it is under way."""
    receiver = post.receiver("a")
    post.tell(receiver, 5_000)
    post.sender.behave = lambda _one: None
    async with post.working():
        await eventually(lambda: post.sender.under_way == 1, "one attempt")
        await eventually(lambda: post.figures.waiting == 5_000, "the figure")
        assert len(post.sender.sent) == 1
