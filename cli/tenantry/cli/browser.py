"""A browser's way back to the command line: a port of this machine that waits for one redirection (RFC 8252, section 7.3)."""

from __future__ import annotations

import hmac
import html
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

PATH: Final = "/callback"
READ_S: Final = 5.0
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Tenantry</title>
<style>:root{{color-scheme:light dark;font-family:system-ui,sans-serif}}main{{max-width:34rem;margin:20vh auto;padding:0 1rem}}</style>
<main><h1>{title}</h1><p>{text}</p></main></html>
"""


@dataclass(frozen=True, slots=True)
class Callback:
    """What the browser brought: a code, or the provider's error."""

    code: str
    error: str


class _Server(HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that hangs up early is no trouble of ours."""


class CallbackListener:
    """Listens on a free port of 127.0.0.1 until a browser comes back with the right state. To be used with ``with``."""

    def __init__(self) -> None:
        """Raises OSError when no port can be had."""
        self._found: Callback | None = None
        self._state = ""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = (
                READ_S  # of one connection: a browser that opens one ahead of need and says nothing holds up nobody
            )
            server_version = "tenantry"
            sys_version = ""

            def do_GET(self) -> None:
                status, title, text = listener._take(self.path)
                page = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name is the base class's
                """Say nothing: the request line holds the code."""

        self._server = _Server(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.server_close()

    @property
    def redirect_uri(self) -> str:
        """Where the browser is to be sent back to."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def wait(self, state: str, seconds: float) -> Callback | None:
        """What the browser brings back for this sign-in; None when it does not come in time."""
        self._state = state
        end = monotonic() + seconds
        while self._found is None and (left := end - monotonic()) > 0:
            self._server.timeout = min(left, 1.0)
            self._server.handle_request()
        return self._found

    def _take(self, target: str) -> tuple[int, str, str]:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path != PATH:
            return 404, "Nothing is here", "This address only waits for the end of a sign-in."
        if not hmac.compare_digest(query.get("state", "").encode(), self._state.encode()):
            return 400, "This is another sign-in", "Start again with the command in your terminal."
        self._found = Callback(query.get("code", ""), query.get("error", ""))
        if self._found.code and not self._found.error:
            return 200, "You can close this window", "The sign-in goes on in your terminal."
        return 200, "The sign-in failed", "Your terminal says why."
