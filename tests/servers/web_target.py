"""An HTTPS server for tests: HTTP/1.1, HTTP/2 and WebSockets, as `python -m tests.servers.web_target PORT FOLDER`."""

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.cli.certificates import make_identity
from tests.servers import packages
from tests.servers.habits import pattern
from tests.servers.ports import steady_port

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class WebTarget:
    """A running server, and the root that its clients must trust."""

    port: int
    root: Path

    def digest(self, size: int) -> str:
        """SHA-256 of what `/bytes/SIZE` gives."""
        return hashlib.sha256(pattern(size)).hexdigest()


@contextmanager
def running_web_target(folder: Path) -> Iterator[WebTarget]:
    """Run one until the block ends."""
    folder.mkdir()
    identity = make_identity(("localhost",))
    (folder / "root.pem").write_text(identity.root)
    (folder / "chain.pem").write_bytes(identity.chain)
    (folder / "key.pem").write_bytes(identity.key)
    port = steady_port()
    command = [sys.executable, "-m", "tests.servers.web_target", str(port), str(folder)]
    with packages.serving(command, port, folder / "log"):
        yield WebTarget(port, folder / "root.pem")


async def application(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Any], Any]) -> None:
    """`/bytes/SIZE` gives so many bytes, `/digest` answers a body with its SHA-256, a WebSocket echoes."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["type"] == "http":
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path: str = scope["path"]
        size = path.removeprefix("/bytes/")
        answer = pattern(int(size)) if size.isdecimal() else hashlib.sha256(body).hexdigest().encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})


async def _echo(receive: Callable[[], Awaitable[Message]], send: Callable[[Any], Any]) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            return


def main() -> None:
    """Serve until the process is killed."""
    port, folder = sys.argv[1:]
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.certfile, config.keyfile = f"{folder}/chain.pem", f"{folder}/key.pem"
    config.alpn_protocols = ["h2", "http/1.1"]
    asyncio.run(serve(application, config))  # type: ignore[arg-type] # its own types of the same ASGI messages


if __name__ == "__main__":
    main()
