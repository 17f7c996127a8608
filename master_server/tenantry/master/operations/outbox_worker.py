"""Sends what waits in the outbox, beside everything else: with tasks, threads and connections of its own, a row at a time.

A receiver that fails is left alone for a while, longer each time; what waits for it waits in the store. What an attempt came to is
written after it was made, so that a Master that dies meanwhile makes it again, under the same key.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import structlog

from tenantry.master.delivering.outgoing import Outgoing
from tenantry.master.delivering.sending import Sender, render_all
from tenantry.master.delivering.templates import RenderFailed
from tenantry.master.domain.deliveries import Attempt, Delivery, DeliveryState, pause_ms
from tenantry.master.domain.receivers import Receiver, ReceiverKind
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.outbox import read_content, settle
from tenantry.master.operations.outbox_lanes import SLOW_MS, Lane, Lanes
from tenantry.master.operations.sealing import Seal, SealBroken, receiver_secret
from tenantry.master.sql.transaction import Transaction
from tenantry.process.failpoints import failpoint
from tenantry.protocol.failures import Failure, MasterStopping

T = TypeVar("T")

TURN_MS: Final = 1_000
"""A lane gives its place away after this, where there is more for it."""
LONGEST_SLEEP_S: Final = 30.0
LEAST_SLEEP_S: Final = 0.02
LOOK_SHARE: Final = 10
"""Looks at what is due take a tenth of the time at most."""
RETRY_WRITING_S: Final = 1.0
HOUSE_S: Final = 10.0
ROWS_A_STEP: Final = 500
FINISH_S: Final = 2.0

log = structlog.get_logger()


class Read(Protocol):
    """Runs a function with a read transaction in a thread of the outbox's own."""

    def __call__(self, function: Callable[[Transaction], T]) -> Awaitable[T]:
        """The function's result. Raises what it raises, and StoreUnavailable."""


class OutboxObserver(Protocol):
    """Told what comes of the outbox."""

    def attempt_made(self, kind: ReceiverKind, *, taken: bool, dead: bool) -> None:
        """A receiver has taken something or not; ``dead``: it was given up."""

    def set_waiting(self, count: int, oldest_seconds: float) -> None:
        """So many wait, the oldest for so long."""

    def deliveries_died(self, count: int) -> None:
        """So many were given up because their lifetime was over."""


@dataclass(frozen=True, slots=True)
class OutboxTerms:
    """As the configuration has them; durations in milliseconds. ``kept_ms``: how long what has ended is kept, None: for ever."""

    concurrency: int
    per_owner: int
    lifetime_ms: int
    kept_ms: int | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    delivery: Delivery
    receiver: Receiver
    outgoing: Outgoing | None
    problem: Attempt | None


def prepare(
    receiver: Receiver, content: Mapping[str, Any], key: str, written_ms: int, now_ms: int, seal: Seal
) -> Outgoing:
    """What goes out. Raises RenderFailed, SealBroken."""
    settings = receiver.draft.settings
    destination = settings.destination.describe()
    return Outgoing(
        key=key,
        settings=settings,
        texts=render_all(settings, content),
        secrets={
            name: seal.open(receiver_secret(receiver.uid, name, destination), kept)
            for name, kept in receiver.secrets.items()
        },
        parameters={
            "alert": content["alert"]["id"],
            "rule": content["rule"]["name"],
            "level": content["level"],
            "tenant": content["tenant"]["guid"],
        },
        severity=content["severity"],
        over=content["over"],
        event_ms=content["timestamp_ms"],
        written_ms=written_ms,
        now_ms=now_ms,
    )


class OutboxWorker:
    """Lives on the event loop."""

    def __init__(
        self,
        committer: Committer,
        read: Read,
        sender: Sender,
        seal: Seal,
        clocks: Clocks,
        terms: OutboxTerms,
        observer: OutboxObserver,
        wake: asyncio.Event,
    ) -> None:
        """``wake`` is set when there may be something new."""
        self._committer = committer
        self._read = read
        self._sender = sender
        self._seal = seal
        self._clocks = clocks
        self._terms = terms
        self._observer = observer
        self._wake = wake
        self._lanes = Lanes(terms.concurrency, terms.per_owner)
        self._chance = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Send for as long as the Master runs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_house())
            while not self._stopping:
                self._wake.clear()
                pause_s, begun_ms = LONGEST_SLEEP_S, self._clocks.steady_ms()
                try:
                    pause_s = await self._begin_turns(group)
                except MasterStopping:
                    return
                except Failure as failure:
                    log.error("the outbox cannot be read; trying again", reason=failure.reason)
                    pause_s = RETRY_WRITING_S
                # Many alerts of one moment are one look; and where a look takes long there are fewer of them.
                took_s = (self._clocks.steady_ms() - begun_ms) / 1000
                await asyncio.sleep(max(LEAST_SLEEP_S, LOOK_SHARE * took_s))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()

    async def finish(self) -> None:
        """Begin nothing new, and give what is under way a moment to end."""
        self._stopping = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await self._idle.wait()
        self._sender.close()

    async def _begin_turns(self, group: asyncio.TaskGroup) -> float:
        """Let lanes have their turns; how long there is nothing else to begin, in seconds."""
        found = await self._read(lambda transaction: transaction.deliveries.lanes())
        wall_ms, steady_ms = self._clocks.wall_ms(), self._clocks.steady_ms()
        self._lanes.keep([number for number, _, _ in found])
        due = [(number, owner) for number, owner, next_ms in found if next_ms <= wall_ms]
        for lane in self._lanes.begin(due, steady_ms):
            self._idle.clear()
            group.create_task(self._turn(lane))
        later = [next_ms - wall_ms for _, _, next_ms in found if next_ms > wall_ms]
        rested_ms = self._lanes.wakes_ms(due)
        if rested_ms is not None and rested_ms > steady_ms:
            later.append(rested_ms - steady_ms)
        return min(LONGEST_SLEEP_S, max(LEAST_SLEEP_S, min(later) / 1000)) if later else LONGEST_SLEEP_S

    async def _turn(self, lane: Lane) -> None:
        """Send what is due for one receiver, one after the other, until it fails or others have waited long enough."""
        begun_ms = self._clocks.steady_ms()
        try:
            while not self._stopping and self._clocks.steady_ms() - begun_ms < TURN_MS:
                prepared = await self._read(partial(self._next, lane.receiver_id))
                if prepared is None or not await self._deliver(lane, prepared):
                    break
        except MasterStopping:
            pass
        except Failure as failure:
            log.error("a receiver has to wait for the store", reason=failure.reason)
            lane.rests_until_ms = self._clocks.steady_ms() + int(RETRY_WRITING_S * 1000)
        except Exception as error:
            log.error("a receiver's turn failed", receiver=lane.receiver_id, exc_info=error)
            lane.failures += 1
            lane.rests_until_ms = self._clocks.steady_ms() + pause_ms(lane.failures, 0)
        finally:
            self._lanes.end(lane)
            if not self._lanes.busy:
                self._idle.set()
            self._wake.set()

    def _next(self, receiver_id: int, transaction: Transaction) -> _Prepared | None:
        """What is to be sent next, ready to go out. In a thread."""
        now_ms = self._clocks.wall_ms()
        delivery = transaction.deliveries.next_for(receiver_id, now_ms)
        receiver = transaction.receivers.by_number(receiver_id)
        if delivery is None or receiver is None or not receiver.draft.active:
            return None
        if now_ms >= delivery.since_ms + self._terms.lifetime_ms:
            gone = Attempt(False, f"its lifetime is over; last: {delivery.outcome or 'never tried'}", permanent=True)
            return _Prepared(delivery, receiver, None, gone)
        try:
            content = read_content(delivery)
            outgoing = prepare(receiver, content, delivery.uid, delivery.created_ms, now_ms, self._seal)
        except RenderFailed as error:
            return _Prepared(delivery, receiver, None, Attempt(False, str(error), permanent=True))
        except SealBroken:
            return _Prepared(delivery, receiver, None, Attempt(False, "its secrets cannot be read: give them again"))
        return _Prepared(delivery, receiver, outgoing, None)

    async def _deliver(self, lane: Lane, prepared: _Prepared) -> bool:
        """One attempt; whether the receiver works."""
        begun_ms = self._clocks.steady_ms()
        if prepared.outgoing is None:
            attempt = prepared.problem or Attempt(False, "")
        else:
            failpoint("delivery.before_attempt")
            attempt = await self._sender.send(prepared.outgoing)
            failpoint("delivery.after_attempt")
        now_ms = self._clocks.steady_ms()
        # What is refused for good says nothing against the receiver.
        works = attempt.taken or attempt.permanent
        lane.slow = now_ms - begun_ms > SLOW_MS
        lane.failures = 0 if works else lane.failures + 1
        chance = self._chance.random()
        if not works:
            lane.rests_until_ms = now_ms + pause_ms(lane.failures, chance, attempt.wish_ms)
        settled = await self._settle(prepared.delivery, attempt, lane.failures, chance)
        failpoint("delivery.settled")
        self._observer.attempt_made(
            prepared.receiver.draft.settings.kind,
            taken=attempt.taken,
            dead=settled is not None and settled.state is DeliveryState.DEAD,
        )
        return works

    async def _settle(self, delivery: Delivery, attempt: Attempt, failures: int, chance: float) -> Delivery | None:
        """Write down what was made, however long that takes: otherwise it is made again. Raises MasterStopping."""
        while True:
            try:
                return await self._committer.run(
                    lambda transaction: settle(
                        transaction, delivery, attempt, failures, chance, self._clocks.wall_ms()
                    ),
                    patient=True,
                )
            except MasterStopping:
                raise
            except Failure as failure:
                log.error("a delivery's outcome is not written; trying again", reason=failure.reason)
                await asyncio.sleep(RETRY_WRITING_S)

    # --- what has become old ----------------------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        """Give up what has waited too long, erase what has ended long ago, and tell the figures."""
        while not self._stopping:
            more = False
            try:
                more = await self._step()
            except MasterStopping:
                return
            except Failure as failure:
                log.error("the outbox is not looked after; trying again", reason=failure.reason)
            await asyncio.sleep(LEAST_SLEEP_S if more else HOUSE_S)

    async def _step(self) -> bool:
        now_ms = self._clocks.wall_ms()
        count, since_ms = await self._read(lambda transaction: transaction.deliveries.waiting())
        self._observer.set_waiting(count, 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000)
        outlived_ms = now_ms - self._terms.lifetime_ms
        gone = 0
        if since_ms is not None and since_ms < outlived_ms:
            why = "its lifetime is over"
            gone = await self._committer.run(
                lambda transaction: transaction.deliveries.give_up(outlived_ms, ROWS_A_STEP, why, now_ms), patient=True
            )
            self._observer.deliveries_died(gone)
        erased = 0
        kept_ms = self._terms.kept_ms
        if kept_ms is not None:
            before_ms = now_ms - kept_ms
            erased = await self._committer.run(
                lambda transaction: transaction.deliveries.erase_before(before_ms, ROWS_A_STEP), patient=True
            )
        return max(gone, erased) >= ROWS_A_STEP
