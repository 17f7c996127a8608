"""What the console answers to a request: decided without a connection, from its method, target and headers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tenantry.daemon.console.access import Access
from tenantry.daemon.console.defences import is_called_on_loopback, is_own_call, is_own_page
from tenantry.daemon.domain.failures import TunnelNotHeld
from tenantry.protocol.failures import Failure

Facts = Callable[[], Awaitable[Mapping[str, Any]]]

_FOLDER: Final = Path(__file__).with_name("pages")
_PAGES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_DEED: Final = re.compile(r"/tunnels/(?P<tunnel>[0-9a-f-]{36})/(?P<what>end|allow|deny)")
_READING: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its content; the names of headers are in small letters."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    content: bytes
    media_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Tunnels(Protocol):
    """What the console shows and does about tunnels."""

    def describe(self, only: str | None = None) -> dict[str, Any]:
        """How they stand; ``only``: nothing but this tunnel."""
        ...

    def close(self, tunnel: str, who: str) -> str:
        """End one. Raises TunnelNotHeld."""
        ...

    def answer(self, tunnel: str, *, yes: bool, who: str) -> str:
        """Answer a question for consent. Raises ConsentNotAsked."""
        ...


class Answering:
    """All that the console can answer. The page itself says nothing about the machine; everything else asks for a session.

    Who comes ``through`` a tunnel is not at this machine: consent is not theirs to give, and that tunnel is the only one that they
    see and end.
    """

    def __init__(
        self, facts: Facts, access: Access, tunnels: Tunnels | None = None, through: str | None = None
    ) -> None:
        self._facts = facts
        self._access = access
        self._tunnels = tunnels
        self._through = through
        self._telling = asyncio.Lock()
        self._pages = {path: ((_FOLDER / name).read_bytes(), kind) for path, (name, kind) in _PAGES.items()}

    async def answer(self, request: Request) -> Answer:
        """The answer; no text of the request is in it."""
        if not is_called_on_loopback(request.headers):
            return Answer(421, b"The console answers to localhost and to loopback addresses alone.\n")
        if not is_own_call(request.headers):
            return Answer(
                403, b"Other sites may not call the console. Put its link into the address line of the browser.\n"
            )
        path = request.target.partition("?")[0]
        if path == "/session":
            return self._open_session(request)
        if (deed := _DEED.fullmatch(path)) is not None:
            return self._act(request, deed["what"], deed["tunnel"])
        if path not in self._pages and path != "/status.json":
            return Answer(404, b"There is no such page.\n")
        if request.method not in _READING:
            return _not_allowed("GET, HEAD")
        if path == "/status.json":
            return await self._tell(request)
        content, media_type = self._pages[path]
        return Answer(200, content, media_type)

    def _open_session(self, request: Request) -> Answer:
        if request.method != "POST":
            return _not_allowed("POST")
        session = self._access.exchange(_credential(request, "Ticket"))
        if session is None:
            return _not_admitted()
        return Answer(200, json.dumps({"session": session}).encode(), _JSON)

    def _act(self, request: Request, what: str, tunnel: str) -> Answer:
        """What a button does. Only this console's own page gets here, with a session that no browser sends by itself."""
        if request.method != "POST":
            return _not_allowed("POST")
        if not is_own_page(request.headers):
            return Answer(403, b"Only the console's own page may do that.\n")
        if not self._access.admits(_credential(request, "Bearer")):
            return _not_admitted()
        try:
            self._do(what, tunnel)
        except Failure as failure:
            return Answer(404, json.dumps({"problem": failure.describe()}).encode(), _JSON)
        except PermissionError:
            return Answer(403, b"Not through a tunnel.\n")
        return Answer(200, b"{}", _JSON)

    def _do(self, what: str, tunnel: str) -> None:
        """Raises TunnelNotHeld, ConsentNotAsked, PermissionError."""
        if self._tunnels is None:
            raise TunnelNotHeld(tunnel=tunnel)
        if self._through is not None and (what != "end" or tunnel != self._through):
            raise PermissionError
        if what == "end":
            self._tunnels.close(
                tunnel, "local console" if self._through is None else "local console, through the tunnel"
            )
        else:
            self._tunnels.answer(tunnel, yes=what == "allow", who="local console")

    async def _tell(self, request: Request) -> Answer:
        if not self._access.admits(_credential(request, "Bearer")):
            return _not_admitted()
        try:
            async with self._telling:  # where the disk hangs, one waits for it and not every open page
                facts = await self._facts()
        except Failure as failure:
            return Answer(503, json.dumps({"problem": failure.describe()}).encode(), _JSON)
        tunnels = {} if self._tunnels is None else {"tunnels": self._tunnels.describe(self._through)}
        return Answer(200, json.dumps({**facts, **tunnels}).encode(), _JSON)


def _credential(request: Request, scheme: str) -> str:
    """What stands in ``Authorization`` after the scheme. A browser never adds that by itself, and other sites may not."""
    given, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret if given == scheme else ""


def _not_allowed(allowed: str) -> Answer:
    return Answer(405, b"Not in this way.\n", headers=(("allow", allowed),))


def _not_admitted() -> Answer:
    text = b"Run `tenantry-daemon console` on this machine and open the link that it prints.\n"
    return Answer(401, text, headers=(("www-authenticate", "Bearer"),))
