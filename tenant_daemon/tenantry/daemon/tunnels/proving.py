"""Has grants and tickets proven by a process that lives while there are tunnels: the certificate library stays out of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.tunnels.papers import GRANT_TYPE, TICKET_TYPE, Grant, Ticket, decode_grant, decode_ticket

_log = structlog.get_logger(__name__)

_PROGRAM: Final = (sys.executable, "-P", "-m", "tenantry.daemon.tunnels.proving_work")
_ANSWER_S: Final = 20.0
"""The first answer needs the start of an interpreter, on a machine that may be busy."""
_LONGEST_LINE: Final = 256 * 1024
_DIED: Final = (OSError, ValueError, TimeoutError, EOFError, asyncio.LimitOverrunError, RuntimeError)
"""What a process that ends early looks like; RuntimeError is uvloop's word for a pipe that is closed already."""
_NOBODY: Final = "the Tenant could not prove it"


class Proving:
    """The process. `close` ends it; the next question starts another."""

    def __init__(self, folder: Path, trust_domain: str, program: Sequence[str] = _PROGRAM) -> None:
        """``folder``: of the identity, with the roots to trust."""
        self._command = (*program, str(folder), trust_domain)
        self._process: asyncio.subprocess.Process | None = None
        self._one = asyncio.Lock()

    async def prove_grant(self, token: str) -> Grant:
        """What it says. Raises TunnelTicketRefused."""
        return decode_grant(await self._ask(GRANT_TYPE, token))

    async def prove_ticket(self, token: str) -> Ticket:
        """What it says. Raises TunnelTicketRefused."""
        return decode_ticket(await self._ask(TICKET_TYPE, token))

    async def close(self) -> None:
        """End the process, once the question at hand is answered."""
        async with self._one:
            await self._end()

    async def _ask(self, typ: str, token: str) -> bytes:
        line = json.dumps([typ, token]).encode() + b"\n"
        if len(line) > _LONGEST_LINE:
            raise TunnelTicketRefused(cause="it is too long")
        async with self._one:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    payload, why = json.loads(await self._exchange(line))
            except _DIED as error:
                # What it had to say about that is in the daemon's own log: they share standard error.
                _log.error("grants and tickets cannot be proven", cause=f"{type(error).__name__}: {error}"[:300])
                await self._end()
                raise TunnelTicketRefused(cause=_NOBODY) from None
            except asyncio.CancelledError:
                await self._end()  # its answer would be taken for that of the next question
                raise
        if payload is None:
            raise TunnelTicketRefused(cause=str(why))
        return str(payload).encode()

    async def _exchange(self, line: bytes) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
            )
        given, taken = process.stdin, process.stdout
        if given is None or taken is None:
            raise OSError("no pipes")
        given.write(line)
        await given.drain()
        return await taken.readuntil(b"\n")

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
