"""Where queries are handed in: their turns, the processes that work them out, and what ends them. Lives on the event loop.

A query that is given up (its caller goes or may no longer see what it reads, its time is over, the Master stops) is ended by ending
its process, which takes a moment whatever it does. A process that has ended its query in peace takes the next one.
"""

import asyncio
import json
import os
import resource
import shutil
import sys
import uuid
from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from tenantry.master.domain.records import JsonValue
from tenantry.master.query.exchange import LENGTH, MAX_FRAME, Message, Order, pack
from tenantry.master.query.limits import ROOM, QueryLimits
from tenantry.master.query.turns import QueryTurns
from tenantry.protocol.failures import CATALOGUE, InternalFault, MasterStopping, QueryTimedOut, QueryTooLarge

log = structlog.get_logger()

IDLE_S: Final = 300.0
"""So long a process waits for the next query."""
STEP_S: Final = 10.0
"""So long a step of what is followed may take, from when its process begins with it."""
START_S: Final = 60.0
"""So long a process may take until it begins: a new one, on a machine that is busy."""
_LAST: Final = frozenset({"end", "plan"})
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "HOME")
"""And what libpq reads: PG…"""
_MALLOC: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""glibc keeps what one batch needed for the next one: to have it back from the system, page by page, costs as much as decoding."""


class _Worker:
    """One process, and its folder for what does not fit into its memory."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self.folder = folder
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_room(self, engine_bytes: int) -> bool:
        """Whether it holds so little that the next query finds what it may have: a large one leaves its memory behind."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[5])
        except (OSError, IndexError):
            return True
        return pages * resource.getpagesize() < (2 * engine_bytes + ROOM) * 3 // 4

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand it a message; what it does not take at once waits."""
        if self._process.stdin is None:
            raise RuntimeError("it has no input")
        self._process.stdin.write(pack(message))

    async def receive(self) -> Message:
        """Its next message. Raises EOFError where it has ended."""
        if self._process.stdout is None:
            raise RuntimeError("it has no output")
        try:
            (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            if length > MAX_FRAME:
                raise EOFError("a message is longer than any")
            message: Message = json.loads(await self._process.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError("the process has ended") from error
        return message

    def end(self) -> None:
        """Kill it; whatever it did has ended when this returns, or a moment later."""
        if self.expiry is not None:
            self.expiry.cancel()
        with suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Wait until it is no more, and clear away what it left."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


class QueryDesk:
    """Works out orders, each in a process."""

    def __init__(self, dsn: str, folder: Path, limits: QueryLimits, running: int, each: int) -> None:
        """``running`` queries at once, ``each`` of one caller. ``folder`` is for temporary files; it is emptied."""
        self._dsn = dsn
        self._folder = folder
        self.limits = limits
        self._turns = QueryTurns(running, each)
        self._stepping = asyncio.Semaphore(1)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)  # the engine makes its own folder in it, and none above

    async def run(self, order: Order, caller: Hashable) -> AsyncGenerator[Message, None]:
        """The messages of an answer, ``end`` or ``plan`` last.

        Raises QueryInvalid, StreamNotFound, QueryTimedOut, QueryTooLarge, QueriesTooMany, StoreUnavailable, MasterStopping.
        """
        seconds = order.limits.timeout_ms / 1000
        deadline = asyncio.get_running_loop().time() + seconds
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout_at(deadline):
                    await held.enter_async_context(self._turns.turn(caller))
            except TimeoutError:
                raise QueryTimedOut(seconds=f"{seconds:g}") from None
            messages = self._converse({"order": order.as_plain()}, order, deadline, seconds)
            await held.enter_async_context(aclosing(messages))
            async for message in messages:
                yield message

    async def evaluate(
        self, order: Order, tenants: Sequence[Sequence[JsonValue]], records: Sequence[Sequence[JsonValue]]
    ) -> list[Message]:
        """What an order makes of these records alone. Raises as `run` does."""
        ask = {"order": order.as_plain(), "tenants": tenants, "records": records}
        async with self._stepping:
            deadline = asyncio.get_running_loop().time() + START_S + STEP_S
            bounded = replace(order, limits=replace(order.limits, timeout_ms=int(STEP_S * 1000)))
            async with aclosing(self._converse(ask, bounded, deadline, STEP_S)) as messages:
                return [message async for message in messages]

    async def close(self) -> None:
        """End everything."""
        self._closed = True
        workers = [*self._idle, *self._busy]
        for worker in workers:
            worker.end()
        for worker in workers:
            await worker.gone()
        self._idle.clear()

    async def _converse(
        self, ask: Mapping[str, Any], order: Order, deadline: float, seconds: float
    ) -> AsyncGenerator[Message, None]:
        """Hand a process an order and pass on what it says until the deadline, and so many seconds after it has begun."""
        worker, in_peace = await self._hire(), False
        try:
            worker.send(ask)
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await worker.receive()
                except TimeoutError:
                    raise QueryTimedOut(seconds=f"{order.limits.timeout_ms / 1000:g}") from None
                except EOFError:
                    if self._closed:
                        raise MasterStopping from None
                    # Nothing else ends it from outside than the bound of its memory.
                    raise QueryTooLarge(limit=f"{order.limits.memory >> 20} MiB") from None
                if "begun" in message:
                    deadline = min(deadline, asyncio.get_running_loop().time() + seconds)
                    continue
                if "failure" in message:
                    in_peace = message["failure"] == "QUERY_INVALID"
                    raise CATALOGUE[message["failure"]](**message["metadata"])
                if "fault" in message:
                    log.error("a query failed", trace=message["fault"])
                    raise InternalFault(request_id=f"of process {worker.pid}")
                in_peace = not _LAST.isdisjoint(message)
                yield message
                if in_peace:
                    return
        finally:
            await self._release(worker, in_peace=in_peace)

    async def _hire(self) -> _Worker:
        """A process that waits, or a new one. Raises MasterStopping."""
        if self._closed:
            raise MasterStopping
        while self._idle:
            worker = self._idle.pop()
            if worker.expiry is not None:
                worker.expiry.cancel()
            if worker.alive:
                self._busy.add(worker)
                return worker
            await worker.gone()
        folder = self._folder / uuid.uuid4().hex
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tenantry.master.query.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_MALLOC
            | {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("PG")},
            cwd="/",
        )
        worker = _Worker(process, folder)
        if self._is_closed():  # while it was started
            worker.end()
            await worker.gone()
            raise MasterStopping
        self._busy.add(worker)
        # The DSN may hold a password: neither in the arguments nor in the environment.
        worker.send({"store": self._dsn, "folder": str(folder), "memory": self.limits.memory})
        return worker

    def _is_closed(self) -> bool:
        return self._closed

    async def _release(self, worker: _Worker, *, in_peace: bool) -> None:
        self._busy.discard(worker)
        if in_peace and worker.alive and not self._closed and worker.has_room(self.limits.memory):
            worker.expiry = asyncio.get_running_loop().call_later(IDLE_S, self._dismiss, worker)
            self._idle.append(worker)
            return
        worker.end()
        await worker.gone()

    def _dismiss(self, worker: _Worker) -> None:
        """Nobody has needed it for long. Its folder is empty: it ended its last query in peace."""
        if worker in self._idle:
            self._idle.remove(worker)
        worker.end()
