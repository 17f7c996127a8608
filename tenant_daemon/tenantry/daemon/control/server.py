"""The daemon's end of the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from tenantry.daemon.control.address import bound_address
from tenantry.protocol.failures import Failure, FieldInvalid

_log = structlog.get_logger(__name__)

MAX_LINE = 64 * 1024
_PATIENCE_S = 10.0
_ANSWER_S = 2.0

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


@contextlib.asynccontextmanager
async def serve_control(folder: Path, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer on the socket while the context is open. The folder's lease must be held: a socket left behind is removed."""
    busy = 0
    idle = asyncio.Event()
    idle.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy
        busy += 1
        idle.clear()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                line = await reader.readline()
            reply = await _handle(line, handlers)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError):
            return  # whoever asked has gone, or never finished the line
        finally:
            writer.close()
            busy -= 1
            if busy == 0:
                idle.set()

    path = folder / "control.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with bound_address(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        server = await asyncio.start_unix_server(answer, sock=listener, limit=MAX_LINE)
    except BaseException:
        listener.close()
        raise
    try:
        async with server:
            yield
            with contextlib.suppress(TimeoutError):  # whoever asked to leave still gets the answer
                async with asyncio.timeout(_ANSWER_S):
                    await idle.wait()
    finally:
        path.unlink(missing_ok=True)


async def _handle(line: bytes, handlers: Mapping[str, Handler]) -> Mapping[str, Any]:
    try:
        request = json.loads(line)
        handler = handlers.get(request["command"]) if isinstance(request, dict) else None
        if handler is None:
            raise FieldInvalid(field="command", problem="is unknown", expected=f"one of {', '.join(sorted(handlers))}")
        return {"ok": True, **await handler(request)}
    except Failure as failure:
        return {"ok": False, "reason": failure.reason, "metadata": failure.metadata}
    except (ValueError, KeyError, TypeError) as error:
        invalid = FieldInvalid(
            field="request", problem=f"cannot be read ({type(error).__name__})", expected="a JSON object"
        )
        return {"ok": False, "reason": invalid.reason, "metadata": invalid.metadata}
