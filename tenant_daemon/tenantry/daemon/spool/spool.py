"""The spool for the event loop: one thread does all that blocks, and commits together what waits together."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from tenantry.daemon.domain.failures import SpoolFull, SpoolReplaced, SpoolUnavailable
from tenantry.daemon.domain.spooling import DeclaredLosses, Deposit, Slice, SpoolStanding
from tenantry.daemon.spool import database
from tenantry.daemon.spool.database import Connect, SpoolDamaged
from tenantry.daemon.spool.keeping import SpoolKeeper, SpoolSettings
from tenantry.daemon.spool.room import accept_with_room, has_room, trim_tail
from tenantry.daemon.spool.store import SpoolFile
from tenantry.protocol.daemon_link import Fetch
from tenantry.protocol.failures import Failure
from tenantry.protocol.layouts import Layout
from tenantry.protocol.messages import LossReason, SpoolStatus, Stream

_log = structlog.get_logger(__name__)
_R = TypeVar("_R")

_TRIM_EVERY_MS = 30_000
_LOOK_EVERY_S = 5.0


class _Job:
    """Work for the spool's thread, and where its outcome goes."""

    __slots__ = ("deposit", "error", "future", "result", "work")

    def __init__(
        self, future: asyncio.Future[Any], work: Callable[[SpoolFile], object] | None, deposit: Deposit | None
    ) -> None:
        self.future = future
        self.work = work
        self.deposit = deposit
        self.result: object = None
        self.error: BaseException | None = None


class Spool:
    """Keeps records until the Master has them. Every method that waits returns after the work is durable.

    Raises SpoolUnavailable while the disk does not work, and SpoolReplaced when the file was found broken: a new epoch has then begun,
    and what was under way under the old one means nothing any more. ``connect`` opens its file.
    """

    def __init__(self, folder: Path, guid: str, settings: SpoolSettings, connect: Connect = database.connect) -> None:
        self._keeper = SpoolKeeper(folder, guid, settings, connect)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: dict[Stream, int] = dict.fromkeys(Stream, 1)
        self._epoch = b""
        self._trimmed_ms = 0
        self._looked_at = -_LOOK_EVERY_S
        self.last_status: SpoolStatus | None = None
        self.grown = asyncio.Event()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Spool]:
        """The spool, open and with its thread running. Raises SpoolUnavailable."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        try:
            await self._call(lambda file: file.book.epoch)
            yield self
        finally:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    # --- for those who have something to keep -----------------------------------------------------------------------------

    async def accept(self, deposit: Deposit) -> None:
        """Keep it; on return it is on the disk. Raises SpoolFull, RecordTooLarge, SpoolUnavailable."""
        await self._submit(None, deposit)
        self.grown.set()

    async def skip(self, stream: Stream, reason: LossReason, detail: str) -> None:
        """Declare that something is missing here which never became a record."""
        await self._call(lambda file: file.skip(stream, reason, detail))
        self.grown.set()

    async def recall(self, name: str) -> bytes | None:
        """What was remembered with a deposit under this name."""
        return await self._call(lambda file: file.recall(name))

    # --- for the link -----------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> bytes:
        """The epoch that is in use now."""
        return self._epoch

    @property
    def ends(self) -> Mapping[Stream, int]:
        """For each stream the sequence number that its next record will get."""
        return self._ends

    async def standing(self) -> SpoolStanding:
        """What a Hello says."""

        def read(file: SpoolFile) -> SpoolStanding:
            book, lost = file.book, self._keeper.witness.declared()
            return SpoolStanding(book.epoch, book.incarnation, file.marks(), file.layout_ids(), lost, file.status())

        return await self._call(read)

    async def status(self) -> SpoolStatus:
        """What waits."""
        return await self._call(lambda file: file.status())

    async def losses(self, limit: int) -> DeclaredLosses:
        """What is declared lost here, with the newest ``limit`` gaps of each stream."""

        def read(file: SpoolFile) -> DeclaredLosses:
            spools = {one.epoch: one for one in self._keeper.witness.declared()}
            return DeclaredLosses(*file.losses(limit), tuple(spools.values()))

        return await self._call(read)

    async def fetch(self, wanted: Fetch) -> Slice:
        """What stands at this place."""
        return await self._call(lambda file: file.fetch(wanted))

    async def layouts(self, ids: frozenset[bytes]) -> tuple[Layout, ...]:
        """These layouts."""
        return await self._call(lambda file: file.layouts(ids))

    async def chains_at(self, places: Mapping[Stream, int]) -> dict[Stream, bytes | None]:
        """The chain after each of these sequence numbers, None where it is not known (any more)."""

        def read(file: SpoolFile) -> dict[Stream, bytes | None]:
            return {
                stream: file.chain_at(stream, seq) if seq < file.book.streams[stream].next_seq else None
                for stream, seq in places.items()
            }

        return await self._call(read)

    async def resume(self, incarnation: int, stored: Mapping[Stream, tuple[int, bytes]]) -> None:
        """Write down the incarnation, and what the Master has stored; the losses of epochs have reached it."""

        def write(file: SpoolFile) -> None:
            file.resume(incarnation, stored)
            self._keeper.remember(replace(self._keeper.witness, incarnation=incarnation, lost=()))

        await self._call(write)

    async def acknowledge(self, stream: Stream, seq: int, now_ms: int, *, epoch: bytes | None = None) -> None:
        """The Master has all of ``epoch`` (None: the one in use) up to ``seq``; what the replay tail need not hold is erased."""

        def write(file: SpoolFile) -> None:
            if epoch is not None and epoch != file.book.epoch:
                return  # of a spool that was replaced meanwhile: the new one's records have the same numbers
            file.acknowledge(stream, seq, now_ms)
            if not 0 <= now_ms - self._trimmed_ms < _TRIM_EVERY_MS:
                self._trimmed_ms = now_ms
                settings = self._keeper.settings
                trim_tail(file, now_ms, settings.tail_bytes, settings.tail_age_ms)
                self._keeper.refit()

        await self._call(write)

    async def give_up(self, stream: Stream, seq: int, reason: LossReason, detail: str) -> None:
        """Replace a record by a declared loss."""
        await self._call(lambda file: file.give_up(stream, seq, reason, detail))

    async def begin_epoch(self, reason: LossReason, detail: str) -> None:
        """Set the spool aside, declare it lost, begin a new one."""

        def write(file: SpoolFile) -> None:  # noqa: ARG001 - the keeper has it too
            self._keeper.replace(reason, detail)

        await self._call(write)

    # --- the thread -------------------------------------------------------------------------------------------------------

    async def _call(self, work: Callable[[SpoolFile], _R]) -> _R:
        result: _R = await self._submit(work, None)
        return result

    async def _submit(self, work: Callable[[SpoolFile], object] | None, deposit: Deposit | None) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(future, work, deposit))
        return await future

    def _work(self) -> None:
        stopping = False
        while not stopping:
            jobs = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    jobs.append(self._jobs.get_nowait())
            stopping = None in jobs
            done = [job for job in jobs if job is not None]
            try:
                self._run(done)
            except Exception as error:  # noqa: BLE001 - a thread that dies would leave everybody waiting for ever
                _log.error("spool work failed", exc_info=error)
                for job in done:
                    job.error = job.error or SpoolUnavailable(cause=f"{type(error).__name__}: {error}")
            if self._loop is not None and not self._loop.is_closed():
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(_deliver, done)
        self._keeper.close()

    def _run(self, jobs: list[_Job]) -> None:
        together: list[_Job] = []
        for job in jobs:
            if job.deposit is not None:
                together.append(job)
                continue
            self._commit(together)
            together = []
            if job.work is not None:
                self._attempt(job, job.work)
        self._commit(together)

    def _commit(self, jobs: list[_Job]) -> None:
        """Natural group commit: what came while the last transaction was written goes into the next one."""
        deposits = [job.deposit for job in jobs if job.deposit is not None]
        if len(deposits) > 1:
            group = _Job(jobs[0].future, None, None)
            self._attempt(group, lambda file: has_room(file, deposits) and _accept_all(file, deposits))
            if group.error is None and group.result is True:
                return
        for job in jobs:
            deposit = job.deposit
            if deposit is not None:
                self._attempt(job, lambda file, one=deposit: accept_with_room(file, one))  # type: ignore[misc]

    def _attempt(self, job: _Job, work: Callable[[SpoolFile], object]) -> None:
        """Do it; once more with the ballast dropped when the disk is full, or in a new spool when a deposit met a broken one."""
        for attempt in (1, 2):
            job.error = None
            try:
                file = self._keeper.file()
                job.result = work(file)
            except SpoolDamaged as damage:
                job.error = self._replace(damage)
                if job.deposit is not None and attempt == 1 and isinstance(job.error, SpoolReplaced):
                    continue
            except sqlite3.Error as error:
                again, job.error = self._recover(error, job)
                if again and attempt == 1:
                    continue
            except OSError as error:
                self._keeper.distrust(error)
                job.error = SpoolUnavailable(cause=str(error))
            except Failure as failure:
                job.error = failure
            except Exception as error:  # noqa: BLE001 - the thread lives on; whoever asked gets the error
                job.error = error
            break
        self._note()

    def _recover(self, error: sqlite3.Error, job: _Job) -> tuple[bool, Exception]:
        """As `_assess`; on a disk without a free byte even making room can fail."""
        try:
            return self._assess(error, job)
        except (sqlite3.Error, OSError) as second:
            return False, SpoolUnavailable(cause=f"{type(second).__name__}: {second}")

    def _assess(self, error: sqlite3.Error, job: _Job) -> tuple[bool, Exception]:
        """Whether to try again, and what to say if that does not help."""
        if database.is_damage(error):
            replaced = self._replace(SpoolDamaged(str(error)))
            return job.deposit is not None and isinstance(replaced, SpoolReplaced), replaced
        if database.is_full(error):
            again = self._keeper.drop_ballast()
            if job.deposit is not None and job.deposit.entries:
                stream = job.deposit.entries[0].stream.value
                return again, SpoolFull(stream=stream, capacity_bytes=self._keeper.settings.quota)
            return again, SpoolUnavailable(cause="the disk is full")
        self._keeper.distrust(error)
        return False, SpoolUnavailable(cause=f"{type(error).__name__}: {error}")

    def _replace(self, damage: SpoolDamaged) -> Failure:
        try:
            self._keeper.replace(LossReason.SPOOL_DAMAGED, str(damage)[:400])
        except SpoolUnavailable as failure:
            return failure
        return SpoolReplaced(cause=str(damage)[:400])

    def _note(self) -> None:
        """Let the event loop see where the streams end; a dictionary is exchanged, never changed."""
        file = self._keeper.trusted
        if file is None:
            return
        self._ends = {stream: one.next_seq for stream, one in file.book.streams.items()}
        self._epoch = file.book.epoch
        if time.monotonic() - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            with contextlib.suppress(sqlite3.Error, OSError):
                self.last_status = file.status()


def _accept_all(file: SpoolFile, deposits: list[Deposit]) -> bool:
    file.accept(deposits)
    return True


def _deliver(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
