"""One writer, natural group commit: everything that is pending goes into one transaction, then the next.

Work of every kind waits in one queue: what Tenants send, what operators want, what the Master itself notices. Each round takes what
is there (bounded in bytes), runs it in one transaction and answers after COMMIT. A piece of work that fails is undone alone, by a
savepoint. Nobody is told "done" before the disk has it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import structlog

from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.deliveries import DataItem, Outcome
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.process.failpoints import failpoint
from tenantry.protocol.failures import Failure, InternalFault, MasterStopping, StoreUnavailable
from tenantry.protocol.messages import Nack, NackCause

T = TypeVar("T")

MAX_ROUND_BYTES = 32 << 20
MAX_ROUND_DATA = 8_192
MAX_ROUND_WORKS = 256
"""In a storm of opening links the first ones shall not wait for the last."""
ROUND_PACE_S = 0.02
"""Least time from the begin of a round of what daemons send to the begin of the next: a commit costs much the same for one record and
for hundreds. Who comes after a pause is served at once, and so is what comes behind the work of an operator."""
CROWDED_PACE_S = 0.06
"""The same while batches come by thousands a second: what a commit costs in any case is then shared by three times as many."""
CROWDED_ROUND = 128
"""Batches in one round from which on the next may wait that long."""
CROWDED_WORKS = 4
"""The same for what daemons ask for: so many of them in a moment are a storm of links, in which a commit costs as much as a link."""
CROWD = 64
"""Batches in one round from which on the Master has so much to do that links wait longer for their acknowledgements."""
MAX_QUEUED_BYTES = 64 << 20
"""Beyond this, links are not read until the queue is shorter: gRPC's windows then hold the Tenants back."""

log = structlog.get_logger()


class CommitObserver(Protocol):
    """Told after each round; called in the committer's thread."""

    def round_committed(self, *, seconds: float, works: int, batches: int, records: int, samples: int) -> None:
        """A round is durable."""

    def round_failed(self) -> None:
        """A round could not be stored."""

    def batch_acknowledged(self, seconds: float) -> None:
        """The batch of a round that had waited longest is answered."""

    def batch_refused(self, cause: NackCause) -> None:
        """A batch is not stored, and its sender is told."""


@dataclass(slots=True, eq=False)
class _Work(Generic[T]):
    function: Callable[[Transaction], T]
    future: "asyncio.Future[T]"
    patient: bool
    result: T | None = None
    error: BaseException | None = None

    def attempt(self, transaction: Transaction) -> None:
        """Run inside a savepoint; a failure undoes this work alone."""
        self.result, self.error = None, None
        try:
            with transaction.savepoint():
                self.result = self.function(transaction)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is goes to who asked, and nobody else suffers
            self.error = error

    def answer(self) -> None:
        """On the loop, after COMMIT."""
        if self.future.cancelled():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # None is a T when the function returns None


class _Stop:
    """Put into the queue to end the thread."""


class Committer:
    """Owns the writing thread. `run` and `submit` are called on the event loop."""

    def __init__(
        self,
        database: Database,
        ingest: Ingest,
        clocks: Clocks,
        loop: asyncio.AbstractEventLoop,
        observer: CommitObserver | None = None,
    ) -> None:
        self._database = database
        self._ingest = ingest
        self._clocks = clocks
        self._loop = loop
        self._observer = observer
        self._queue: SimpleQueue[_Work[Any] | DataItem | _Stop] = SimpleQueue()
        self._queued_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="committer")

    @property
    def queued_bytes(self) -> int:
        """Bytes of batches that wait for their transaction."""
        return self._queued_bytes

    @property
    def has_room(self) -> bool:
        """Whether links may be read without waiting."""
        return self._queued_bytes <= MAX_QUEUED_BYTES

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    async def stop(self) -> None:
        """Write what is pending, then end. Later work is refused with MasterStopping."""
        self._stopping = True
        if self._thread.is_alive():
            self._queue.put(_Stop())
            await asyncio.to_thread(self._thread.join)

    async def run(self, function: Callable[[Transaction], T], *, patient: bool = False) -> T:
        """Run ``function`` in a transaction that is shared with what else is pending; its result, after COMMIT.

        ``patient``: a daemon asks and no person waits, so that it may be kept for a moment until others come.
        Raises what it raises (its own writes are undone then), StoreUnavailable, or MasterStopping. The function may be
        run twice when a shared transaction had to be repeated: it must have no effects but those on the transaction.
        """
        if self._stopping:
            raise MasterStopping
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Work(function, future, patient))
        return await future

    def submit(self, item: DataItem) -> None:
        """Store a batch or a loss; its session is answered after COMMIT."""
        self._queued_bytes += item.size
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self._room.clear()
        self._queue.put(item)

    async def wait_for_room(self) -> None:
        """Return when the queue is short enough to read more from a link."""
        await self._room.wait()

    # --- the writing thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            first = self._queue.get()
            begun = time.monotonic()
            works, data, stop = self._gather(first)
            if works or data:
                self._round(works, data)
            if stop:
                return
            crowded = len(data) >= CROWDED_ROUND or len(works) >= CROWDED_WORKS
            pace = CROWDED_PACE_S if crowded else ROUND_PACE_S
            rest = begun + pace - time.monotonic()
            if rest > 0 and all(work.patient for work in works):
                time.sleep(rest)

    def _gather(self, entry: "_Work[Any] | DataItem | _Stop") -> tuple[list[_Work[Any]], list[DataItem], bool]:
        """``entry`` and all that waits behind it, up to the bounds of one round. True when it is time to end."""
        works: list[_Work[Any]] = []
        data: list[DataItem] = []
        size, take = 0, self._queue.get_nowait
        while True:
            if isinstance(entry, DataItem):
                data.append(entry)
                size += entry.size
            elif isinstance(entry, _Work):
                works.append(entry)
            else:
                return works, data, True
            if size >= MAX_ROUND_BYTES or len(data) >= MAX_ROUND_DATA or len(works) >= MAX_ROUND_WORKS:
                return works, data, False
            try:
                entry = take()
            except Empty:
                return works, data, False

    def _round(self, works: Sequence[_Work[Any]], data: Sequence[DataItem]) -> None:
        started = self._clocks.steady_ms()
        try:
            outcomes = self._commit(works, data)
        except Exception as error:  # noqa: BLE001 - the writing thread must outlive every error; it is told to all who wait
            outcomes = self._refuse(works, data, error)
        else:
            if self._observer is not None:
                self._observer.round_committed(
                    seconds=(self._clocks.steady_ms() - started) / 1000,
                    works=len(works),
                    batches=len(data),
                    records=sum(outcome.records for outcome in outcomes),
                    samples=sum(outcome.samples for outcome in outcomes),
                )
        size = sum(item.size for item in data)
        self._loop.call_soon_threadsafe(self._answer, works, outcomes, size)

    def _commit(self, works: Sequence[_Work[Any]], data: Sequence[DataItem]) -> list[Outcome]:
        with self._database.write() as transaction:
            for work in works:
                work.attempt(transaction)
            outcomes = self._ingest.store(transaction, data, self._clocks.wall_ms()) if data else []
            failpoint("ingest.before_commit")
        failpoint("ingest.after_commit")
        self._ingest.committed()
        return outcomes

    def _refuse(self, works: Sequence[_Work[Any]], data: Sequence[DataItem], error: Exception) -> list[Outcome]:
        """Nothing of the round is stored, or nobody knows: no work is done, no batch is acknowledged."""
        if self._observer is not None:
            self._observer.round_failed()
        log.error("commit failed", works=len(works), batches=len(data), exc_info=error)
        failure = error if isinstance(error, Failure) else InternalFault(request_id="committer")
        for work in works:
            work.error = failure
        return self._ingest.refused(data, failure)

    # --- back on the loop -------------------------------------------------------------------------------------------------

    def _answer(self, works: Sequence[_Work[Any]], outcomes: Sequence[Outcome], size: int) -> None:
        self._queued_bytes -= size
        if self._queued_bytes <= MAX_QUEUED_BYTES:
            self._room.set()
        for work in works:
            work.answer()
        crowded = len(outcomes) >= CROWD
        for outcome in outcomes:
            outcome.item.session.answer(outcome, crowded=crowded)
        if self._observer is not None and outcomes:
            self._observe(self._observer, outcomes)

    def _observe(self, observer: CommitObserver, outcomes: Sequence[Outcome]) -> None:
        observer.batch_acknowledged((self._clocks.steady_ms() - outcomes[0].item.received_ms) / 1000)
        for outcome in outcomes:
            if isinstance(outcome.reply, Nack):
                observer.batch_refused(outcome.reply.cause)
