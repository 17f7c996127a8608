"""Has grants and tickets proven by a process that lives while there are tunnels: the certificate library stays out of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, cast

import structlog

from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.tunnels.papers import GRANT_TYPE, TICKET_TYPE, Grant, Ticket, decode_grant, decode_ticket

_log = structlog.get_logger(__name__)

_PROGRAM: Final = (sys.executable, "-P", "-m", "tenantry.daemon.tunnels.proving_work")
_ANSWER_S: Final = 20.0
"""The first answer needs the start of an interpreter, on a machine that may be busy."""
_LONGEST_LINE: Final = 256 * 1024
_STDOUT: Final = 1
_DIED: Final = (OSError, ValueError, TimeoutError, EOFError, RuntimeError)
"""What a process that ends early looks like; RuntimeError is uvloop's word for a pipe that is closed already."""
_NOBODY: Final = "the Tenant could not prove it"


class Proving:
    """The process. `close` ends it; the next question starts another."""

    def __init__(self, folder: Path, trust_domain: str, program: Sequence[str] = _PROGRAM) -> None:
        """``folder``: of the identity, with the roots to trust."""
        self._command = (*program, str(folder), trust_domain)
        self._prover: _Prover | None = None
        self._starting = asyncio.Lock()

    def prove_grant(self, token: str) -> Coroutine[Any, Any, Grant]:
        """What it says. The process is asked at once, when there is one. Raises TunnelTicketRefused where it is awaited."""
        return self._grant(token, self._begin(GRANT_TYPE, token))

    def prove_ticket(self, token: str) -> Coroutine[Any, Any, Ticket]:
        """As `prove_grant`."""
        return self._ticket(token, self._begin(TICKET_TYPE, token))

    async def close(self) -> None:
        """End the process, once the questions at hand are answered."""
        async with self._starting:
            prover = self._prover
            if prover is not None:
                await prover.answered()
                await self._end(prover)

    async def _grant(self, token: str, begun: asyncio.Future[bytes] | None) -> Grant:
        return decode_grant(await self._proven(GRANT_TYPE, token, begun))

    async def _ticket(self, token: str, begun: asyncio.Future[bytes] | None) -> Ticket:
        return decode_ticket(await self._proven(TICKET_TYPE, token, begun))

    def _begin(self, typ: str, token: str) -> asyncio.Future[bytes] | None:
        """Ask the process that runs; None where there is none."""
        prover = self._prover
        if prover is None or prover.is_over or self._starting.locked():
            return None
        return prover.ask(_question(typ, token))

    async def _proven(self, typ: str, token: str, begun: asyncio.Future[bytes] | None) -> bytes:
        prover = self._prover if begun is not None else None
        try:
            async with asyncio.timeout(_ANSWER_S):
                if begun is None:
                    prover = await self._running()
                    begun = prover.ask(_question(typ, token))
                payload, why = json.loads(await begun)
        except _DIED as error:
            # What it had to say about that is in the daemon's own log: they share standard error.
            _log.error("grants and tickets cannot be proven", cause=f"{type(error).__name__}: {error}"[:300])
            if prover is not None:
                await self._end(prover)
            raise TunnelTicketRefused(cause=_NOBODY) from None
        if payload is None:
            raise TunnelTicketRefused(cause=str(why))
        return str(payload).encode()

    async def _running(self) -> _Prover:
        """The process; started where there is none. Raises OSError."""
        async with self._starting:
            prover = self._prover
            if prover is None or prover.is_over:
                loop = asyncio.get_running_loop()
                _, protocol = await loop.subprocess_exec(_Prover, *self._command, stderr=None)
                prover = self._prover = protocol
            return prover

    async def _end(self, prover: _Prover) -> None:
        if self._prover is prover:
            self._prover = None
        prover.kill()
        await prover.ended


class _Prover(asyncio.SubprocessProtocol):
    """A process, and the questions that it has not answered yet, in their order."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._rest = b""
        self._over = False
        self._process: asyncio.SubprocessTransport | None = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return 0 if self._process is None else self._process.get_pid()

    @property
    def is_over(self) -> bool:
        """Whether it answers no more."""
        return self._over

    def ask(self, line: bytes) -> asyncio.Future[bytes]:
        """Its answer to a question. Whoever gives that up leaves the next answers to their own questions."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if len(line) > _LONGEST_LINE:
            answer.set_exception(TunnelTicketRefused(cause="it is too long"))
            return answer
        given = self._process.get_pipe_transport(0) if self._process is not None and not self.is_over else None
        if given is None:
            answer.set_exception(EOFError("the process has ended"))
            return answer
        self._asked.append(answer)
        cast("asyncio.WriteTransport", given).write(line)
        return answer

    async def answered(self) -> None:
        """Return when nothing is asked that is not answered."""
        while self._asked:
            await asyncio.wait([self._asked[-1]])
            await asyncio.sleep(0)  # what is done is taken off right behind

    def kill(self) -> None:
        """End it; what is asked is not answered any more."""
        self._give_up()
        if self._process is not None and not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs."""
        self._process = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Answers, in whole or in part."""
        if fd != _STDOUT:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._asked:
                break
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(line)
        else:
            if not self._rest or (self._asked and len(self._rest) <= _LONGEST_LINE):
                return
        # It says more than it was asked, which would be taken for the answer to the next question.
        self.kill()

    def pipe_connection_lost(self, _fd: int, _exc: Exception | None) -> None:
        """It hears or says no more."""
        self._give_up()

    def process_exited(self) -> None:
        """It has ended."""
        self._give_up()
        if not self.ended.done():
            self.ended.set_result(None)
        if self._process is not None:
            self._process.close()

    def _give_up(self) -> None:
        self._over = True
        while self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(EOFError("the process has ended"))


def _question(typ: str, token: str) -> bytes:
    return json.dumps([typ, token]).encode() + b"\n"
