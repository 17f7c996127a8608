"""Group commit: one transaction for all that waits, each failure its owner's alone, and no answer before the disk has it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pytest

from tenantry.master.domain.records import StreamName
from tenantry.master.operations import committing as committing_module
from tenantry.master.operations import journal
from tenantry.master.operations.committing import MAX_QUEUED_BYTES, Committer
from tenantry.master.operations.deliveries import DataItem, Decoders, LayoutDirectory
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.operations.links import LinkSession
from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import InternalFault, MasterStopping, StoreUnavailable, TenantNotFound
from tenantry.protocol.messages import Ack, Nack, NackCause, NotificationLevel, Stream
from tenantry.transport.records import decode_alert, decode_frame, decode_notification
from tests.master.operations.at_work import NOW, Sender, TurnedClocks, note, open_marks, open_session, stored_marks

DEADLINE_S = 60


class Rounds:
    """Counts what the committer tells, and how often it writes; can hold it or make it fail."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.committed: list[tuple[int, int]] = []
        self.failed = 0
        self.refused: list[NackCause] = []
        self.acknowledged = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.trouble: Exception | None = None

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction, after the gate; the trouble comes where COMMIT would be."""
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        with self._database.write() as transaction:
            yield transaction
            if self.trouble is not None:
                raise self.trouble

    def round_committed(self, *, seconds: float, works: int, batches: int, records: int, samples: int) -> None:
        """A round is durable."""
        assert seconds >= 0 and records >= 0 and samples >= 0
        self.committed.append((works, batches))

    def round_failed(self) -> None:
        """A round could not be stored."""
        self.failed += 1

    def batch_acknowledged(self, seconds: float) -> None:
        """A round's batches are answered."""
        assert seconds >= 0
        self.acknowledged += 1

    def batch_refused(self, cause: NackCause) -> None:
        """A batch is refused."""
        self.refused.append(cause)


@asynccontextmanager
async def committing(rounds: Rounds) -> AsyncIterator[Committer]:
    """A committer at work on the store behind `rounds`."""
    ingest = Ingest(Decoders(decode_frame, decode_alert, decode_notification, read_alike_frames), LayoutDirectory())
    committer = Committer(cast("Database", rounds), ingest, TurnedClocks().clocks, asyncio.get_running_loop(), rounds)
    committer.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield committer
    finally:
        rounds.gate.set()
        await committer.stop()


@asynccontextmanager
async def held(rounds: Rounds, committer: Committer, group: asyncio.TaskGroup) -> AsyncIterator[None]:
    """The committer is kept in a round of its own, so that what is handed in meanwhile makes the next one together."""
    rounds.gate.clear()
    rounds.entered.clear()
    group.create_task(_outcome(committer, lambda _: ""))
    await asyncio.to_thread(rounds.entered.wait, DEADLINE_S)
    yield
    for _ in range(3):
        await asyncio.sleep(0)  # lets the tasks of the group hand in their work
    rounds.gate.set()


def say(text: str, failure: Exception | None = None) -> "Work":
    """Work that writes a notification of the Master's own, and fails after it when told so."""
    return Work(text, failure)


class Work:
    """Writes one record."""

    def __init__(self, text: str, failure: Exception | None) -> None:
        self.text = text
        self.failure = failure

    def __call__(self, transaction: Transaction) -> str:
        transaction.records.append([journal.notification(NotificationLevel.INFO, "test", self.text, NOW)])
        if self.failure is not None:
            raise self.failure
        return self.text


def said(database: Database) -> list[object]:
    """The texts of the Master's own notifications."""
    with database.read() as transaction:
        return [record.fields["text"] for record in transaction.records.after(StreamName.NOTIFICATIONS, 0, 100)]


async def answers(session: LinkSession, count: int) -> list[Ack | Nack]:
    """What is written to the link once it has this many credits back."""
    found: list[Ack | Nack] = []
    while sum(one.credits for one in found) < count:
        await session.wake.wait()
        found += [one for one in session.outbox if isinstance(one, (Ack, Nack))]
        session.outbox.clear()
        session.wake = type(session.wake)()
    return found


def send(committer: Committer, session: LinkSession, sender: Sender, size: int = 10) -> None:
    """A batch arrives."""
    batch = sender.batch([note("x")])
    session.protocol.receive(batch)
    committer.submit(DataItem(session, batch, size))


async def test_what_waits_together_is_committed_together(database: Database) -> None:
    """Work of several askers and batches of several links share one transaction, and each gets its own answer."""
    rounds, sessions = Rounds(database), [open_session(1), open_session(2)]
    open_marks(database, *sessions)
    async with committing(rounds) as committer:
        async with asyncio.TaskGroup() as group, held(rounds, committer, group):
            tasks = [group.create_task(committer.run(say(text))) for text in "abc"]
            for session in sessions:
                send(committer, session, Sender())
        assert [task.result() for task in tasks] == ["a", "b", "c"]
        for session in sessions:
            assert await answers(session, 1) == [Ack(Stream.NOTIFICATIONS, 1, 1)]
    assert rounds.committed == [(1, 0), (3, 2)]
    assert said(database) == ["a", "b", "c"] and rounds.acknowledged == 1


async def test_what_daemons_ask_for_waits_for_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a round of theirs the next begins a moment later, with all that came meanwhile; behind a person's work at once."""
    monkeypatch.setattr(committing_module, "ROUND_PACE_S", DEADLINE_S)
    rounds = Rounds(database)
    async with committing(rounds) as committer:
        await committer.run(say("a person"))
        await committer.run(say("another person"))
        monkeypatch.setattr(committing_module, "ROUND_PACE_S", 0.5)
        await committer.run(say("a daemon"), patient=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(committer.run(say("another daemon"), patient=True))
            await asyncio.sleep(0.05)  # alone it would have been committed by now
            group.create_task(committer.run(say("a third daemon"), patient=True))
    assert rounds.committed == [(1, 0), (1, 0), (1, 0), (2, 0)]


async def test_work_that_fails_undoes_itself_alone(database: Database) -> None:
    """Its own writes are gone and its asker gets the reason; its neighbours are stored, whatever kind of failure it was."""
    rounds, session = Rounds(database), open_session(1)
    open_marks(database, session)
    async with committing(rounds) as committer:
        async with asyncio.TaskGroup() as group, held(rounds, committer, group):
            tasks = [
                group.create_task(_outcome(committer, work))
                for work in (
                    say("first"),
                    say("not found", TenantNotFound(tenant="x")),
                    say("broken", ZeroDivisionError("broken")),
                    say("last"),
                )
            ]
            send(committer, session, Sender())
        outcomes = [task.result() for task in tasks]
        assert outcomes == ["first", "TenantNotFound", "ZeroDivisionError", "last"]
        assert await answers(session, 1) == [Ack(Stream.NOTIFICATIONS, 1, 1)]
    assert said(database) == ["first", "last"] and rounds.failed == 0


async def _outcome(committer: Committer, work: Callable[[Transaction], str]) -> str:
    try:
        return await committer.run(work)
    except (TenantNotFound, ZeroDivisionError, StoreUnavailable, InternalFault) as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("trouble", "told"), [(StoreUnavailable(), "StoreUnavailable"), (OSError("disk"), "InternalFault")], ids=str
)
async def test_a_store_that_fails_refuses_all_and_recovers(database: Database, trouble: Exception, told: str) -> None:
    """Nothing is stored or acknowledged, everybody is told, and the next round works again."""
    rounds, session, sender = Rounds(database), open_session(1), Sender()
    open_marks(database, session)
    async with committing(rounds) as committer:
        async with asyncio.TaskGroup() as group, held(rounds, committer, group):
            tasks = [group.create_task(_outcome(committer, say(text))) for text in "ab"]
            send(committer, session, sender)
            rounds.trouble = trouble
        assert [task.result() for task in tasks] == [told, told]
        (refusal,) = await answers(session, 1)
        assert isinstance(refusal, Nack)
        assert (refusal.cause, refusal.expected_seq) == (NackCause.STORE_UNAVAILABLE, 1)
        assert said(database) == [] and stored_marks(database, session)[Stream.NOTIFICATIONS] == HighWater()
        assert session.marks[Stream.NOTIFICATIONS] == HighWater()
        rounds.trouble = None
        send(committer, session, Sender())
        assert await answers(session, 1) == [Ack(Stream.NOTIFICATIONS, 1, 1)]
    assert rounds.failed and rounds.refused == [NackCause.STORE_UNAVAILABLE] and not committer.queued_bytes


async def test_stopping_writes_what_is_pending_and_takes_nothing_more(database: Database) -> None:
    """What was handed in before is answered as done; later work is refused at once."""
    rounds, session = Rounds(database), open_session(1)
    open_marks(database, session)
    async with committing(rounds) as committer:
        async with asyncio.TaskGroup() as group:
            async with held(rounds, committer, group):
                task = group.create_task(committer.run(say("pending")))
                send(committer, session, Sender())
            await committer.stop()
        assert task.result() == "pending"
        assert await answers(session, 1) == [Ack(Stream.NOTIFICATIONS, 1, 1)]
        with pytest.raises(MasterStopping):
            await committer.run(say("late"))
    assert said(database) == ["pending"]
    assert stored_marks(database, session)[Stream.NOTIFICATIONS].last_seq == 1


async def test_a_full_queue_holds_the_links_back_until_it_is_shorter(database: Database) -> None:
    """Beyond its bytes nobody has room; after the commit everybody has it again."""
    rounds, session, sender = Rounds(database), open_session(1), Sender()
    open_marks(database, session)
    async with committing(rounds) as committer:
        async with asyncio.TaskGroup() as group, held(rounds, committer, group):
            send(committer, session, sender, MAX_QUEUED_BYTES)
            assert committer.has_room and committer.queued_bytes == MAX_QUEUED_BYTES
            await committer.wait_for_room()
            send(committer, session, sender, 1)
            waiting = group.create_task(committer.wait_for_room())
            await asyncio.sleep(0)
            assert not waiting.done() and committer.queued_bytes > MAX_QUEUED_BYTES
        assert committer.has_room
        assert sum(one.credits for one in await answers(session, 2)) == 2
        assert committer.queued_bytes == 0


async def test_an_asker_who_has_gone_disturbs_nobody(database: Database) -> None:
    """Its work is done all the same, and the answers of the others arrive."""
    rounds = Rounds(database)
    async with committing(rounds) as committer:
        async with asyncio.TaskGroup() as group, held(rounds, committer, group):
            gone, stays = (group.create_task(committer.run(say(text))) for text in ("gone", "stays"))
            await asyncio.sleep(0)
            gone.cancel()
        assert gone.cancelled() and stays.result() == "stays"
    assert said(database) == ["gone", "stays"]
