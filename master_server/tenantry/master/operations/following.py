"""Following a stream: records in the order in which they were stored, each once, as they come.

`StreamHub` wakes followers up on the event loop; each follower then reads the store behind its own place, in a thread. Nothing is
queued for anybody, so a follower that reads slowly costs the others nothing, and what it has not read yet it finds in the store.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from tenantry.master.domain.records import StreamName
from tenantry.master.operations.metric_arrivals import (
    FIRST_WIDTH_MS,
    newest_arrival,
    read_arrivals,
    read_last_arrivals,
)
from tenantry.master.operations.metric_ticks import Arrival, DamageObserver, LayoutCache, Sample, ignore_damage
from tenantry.master.operations.places import read_arrival, read_position, write_arrival, write_position
from tenantry.master.operations.reading import ReadRecord, RecordFilter, read_of_records, read_of_samples
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, MasterStopping

ALERT_CHANGES: Final = "alert changes"
"""What followers of alerts wait for, where those of records wait for their stream."""
MAX_BACKLOG: Final = 10_000
RECORDS_A_STEP: Final = 500


class StreamHub:
    """Who waits for which stream. Lives on the event loop; none of its methods blocks."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    def notify(self, streams: Collection[str]) -> None:
        """Something was appended to these streams, or alerts have changed, and is committed."""
        for stream in streams:
            for event in self._waiting.get(stream, ()):
                event.set()

    def close(self) -> None:
        """End all followers with MasterStopping, and refuse new ones."""
        self._closed = True
        for event in itertools.chain.from_iterable(self._waiting.values()):
            event.set()

    def check_open(self) -> None:
        """Raise MasterStopping once the hub is closed."""
        if self._closed:
            raise MasterStopping

    @contextmanager
    def watch(self, *streams: str) -> Iterator[asyncio.Event]:
        """An event that is set when one of the streams has grown, or the hub is closed; whoever waits clears it.

        With `ALERT_CHANGES` it is set when alerts have changed.
        """
        event = asyncio.Event()
        watching = [self._waiting.setdefault(stream, set()) for stream in streams]
        for one in watching:
            one.add(event)
        try:
            yield event
        finally:
            for one in watching:
                one.discard(event)


@dataclass(frozen=True, slots=True)
class TailStep:
    """Some records, the cursor behind them, and whether there is more to read at once."""

    records: list[ReadRecord]
    cursor: str
    more: bool


class Tail(Protocol):
    """One follower's way through a stream. `advance` blocks and is called by one thread at a time."""

    def advance(self, transaction: Transaction) -> TailStep:
        """The next records, perhaps none. If it raises, the caller begins anew from its last cursor."""


Run = Callable[[Callable[[Transaction], TailStep]], Awaitable[TailStep]]
"""Runs a blocking function with a read transaction in a thread."""


async def follow(hub: StreamHub, stream: StreamName, tail: Tail, run: Run) -> AsyncGenerator[TailStep, None]:
    """Steps of a tail for ever: the first one at once, perhaps empty, then each with records.

    Raises MasterStopping when the hub is closed, and what `tail` raises.
    """
    with hub.watch(stream) as grown:
        hub.check_open()
        step = await run(tail.advance)
        yield step
        while True:
            if not step.more:
                await grown.wait()
            hub.check_open()
            # Before the look into the store: what is committed from now on is seen by it, or wakes us up again.
            grown.clear()
            step = await run(tail.advance)
            if step.records:
                yield step


def open_tail(
    wanted: RecordFilter,
    after_cursor: str,
    backlog: int,
    layouts: LayoutCache,
    on_damage: DamageObserver = ignore_damage,
) -> Tail:
    """A follower that goes on after a cursor, or begins with the ``backlog`` newest records, or with what comes from now on.

    Does not touch the store. Raises FieldInvalid.
    """
    if wanted.start_ms is not None or wanted.end_ms is not None:
        raise FieldInvalid(
            field="filter.start_time", problem="is set", expected="no times: a tail begins at its cursor"
        )
    if not 0 <= backlog <= MAX_BACKLOG:
        raise FieldInvalid(field="backlog", problem=f"is {backlog}", expected=f"0 to {MAX_BACKLOG}")
    if backlog and after_cursor:
        raise FieldInvalid(field="backlog", problem="is set beside after_cursor", expected="one of them")
    if wanted.stream is StreamName.METRICS_MASTER:
        arrival = read_arrival(after_cursor) if after_cursor else None
        return _MetricTail(wanted, arrival, backlog, layouts, on_damage)
    return _RecordTail(wanted, read_position(after_cursor) if after_cursor else None, backlog)


class _RecordTail:
    def __init__(self, wanted: RecordFilter, after: int | None, backlog: int) -> None:
        self._wanted = wanted
        self._after = after
        self._backlog = backlog

    def advance(self, transaction: Transaction) -> TailStep:
        stream = self._wanted.stream
        sight = self._wanted.seen(transaction)
        newest = transaction.records.newest_position(stream)
        if self._after is None:
            stored = transaction.records.last(stream, self._backlog, sight) if self._backlog else []
            more, after = False, newest
        else:
            stored = transaction.records.after(stream, self._after, RECORDS_A_STEP, sight)
            more = len(stored) == RECORDS_A_STEP
            after = stored[-1].position if more else max(self._after, newest)
        step = TailStep(read_of_records(transaction, stored), write_position(after), more)
        self._after = after
        return step


class _MetricTail:
    """Reads some whole commits at a time and hands them out in steps."""

    def __init__(
        self,
        wanted: RecordFilter,
        after: Arrival | None,
        backlog: int,
        layouts: LayoutCache,
        on_damage: DamageObserver,
    ) -> None:
        self._wanted = wanted
        self._backlog = backlog
        self._layouts = layouts
        self._on_damage = on_damage
        self._width_ms = FIRST_WIDTH_MS
        self._ready: Iterator[Sample] = iter(())  # up to `_until`
        self._until = after

    def advance(self, transaction: Transaction) -> TailStep:
        samples = list(itertools.islice(self._ready, RECORDS_A_STEP))
        more = True  # after an earlier look: meanwhile there may be new samples
        if not samples:
            self._until, more = self._look(transaction)
            samples = list(itertools.islice(self._ready, RECORDS_A_STEP))
        full = len(samples) == RECORDS_A_STEP
        after = samples[-1].arrival if full or self._until is None else self._until
        return TailStep(read_of_samples(transaction, samples), write_arrival(after), full or more)

    def _look(self, transaction: Transaction) -> tuple[Arrival, bool]:
        """Fill `_ready` from the store; gives the place behind it, and whether the store has more."""
        wanted = self._wanted.wanted(transaction)
        if self._until is None:
            last = read_last_arrivals(transaction, wanted, self._backlog, self._layouts, self._on_damage)
            self._ready = iter(last)
            return newest_arrival(transaction), False
        arrived = read_arrivals(transaction, wanted, self._until, self._width_ms, self._layouts, self._on_damage)
        self._ready, self._width_ms = arrived.samples(), arrived.width_ms
        return arrived.until, arrived.more
