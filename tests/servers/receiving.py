"""Receivers that nobody here wrote, for tests: aiosmtpd in each of its ways, and an HTTP server that misbehaves on demand.

They run in the test's own process, in threads: a Master that hangs at one of them hangs none of the others.
"""

import json
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.cli.certificates import make_identity

MAIL_USER = "operator"
MAIL_PASSWORD = "right horse"


@dataclass(frozen=True)
class Letter:
    """A message that the mail server took."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    user: str


@dataclass
class MailServer:
    """A running one. ``refuses``: recipients that it does not take; ``answers``: what it says after the message."""

    port: int
    authorities: str
    letters: list[Letter] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    answers: str = "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient or not."""
        if address in self.refuses:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a message."""
        if self.answers.startswith("2"):
            told: Any = session.auth_data
            user = told.login.decode() if isinstance(told, LoginPassword) else ""
            content: Any = envelope.content
            self.letters.append(Letter(envelope.mail_from or "", tuple(envelope.rcpt_tos), content, user))
        return self.answers


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (
        MAIL_USER.encode(),
        MAIL_PASSWORD.encode(),
    )
    return AuthResult(success=right, handled=False, auth_data=data if right else None)


@contextmanager
def running_mail_server(
    folder: Path, *, starttls: bool = False, tls: bool = False, sign_in: bool = False, name: str = "localhost"
) -> Iterator[MailServer]:
    """aiosmtpd on a free port, with a certificate for ``name`` where it speaks TLS."""
    identity = make_identity((name,))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chain.pem").write_bytes(identity.chain)
    (folder / "key.pem").write_bytes(identity.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = MailServer(port, identity.root)
    if sign_in and not starttls:
        # It warns of passwords in the clear, and does not see that all of it is inside TLS.
        warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=port,
        ssl_context=context if tls else None,
        tls_context=context if starttls else None,
        require_starttls=starttls,
        authenticator=_authenticate if sign_in else None,
        auth_required=sign_in,
        auth_require_tls=starttls,
        ready_timeout=30,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


@dataclass(frozen=True)
class Request:
    """A request that the HTTP server has read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return self.headers["idempotency-key"]


@dataclass
class HookServer:
    """A running one. ``behave`` is what it does with each request: a status, a header and its value after it, or one of the words
    `hang`, `redirect`, `endless`, `endless head`, `silence`, `garbage`.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    behave: Callable[[Request], Any] = lambda _request: 200
    arrived: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"


class _Handler(BaseHTTPRequestHandler):
    hook: HookServer

    def do_POST(self) -> None:
        """Note the request and behave."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.hook.requests.append(request)
        self.hook.arrived.set()
        answer = self.hook.behave(request)
        if answer == "hang":
            self.hook.over.wait(60)
        elif answer == "silence":
            self.connection.close()
        elif answer == "garbage":
            self.wfile.write(b"\x00\xff SSH-2.0-OpenSSH\r\n")
        elif answer == "redirect":
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{self.hook.port}/elsewhere")
            self.end_headers()
        elif answer in ("endless", "endless head"):
            self._flood(in_head=answer == "endless head")
        else:
            status, *more = answer if isinstance(answer, tuple) else (answer,)
            self.send_response(status)
            if more:
                self.send_header(more[0], more[1])
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_PUT = do_PATCH = do_GET = do_POST  # noqa: N815 - http.server's names

    def _flood(self, *, in_head: bool) -> None:
        self.send_response(200)
        if not in_head:
            self.end_headers()
        self.flush_headers()
        line = b"X-More: " + b"x" * 1_000 + b"\r\n"
        try:
            while not self.hook.over.is_set():
                self.wfile.write(line)
        except OSError:
            return

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


@contextmanager
def running_hook(
    behave: Callable[[Request], Any] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[HookServer]:
    """An HTTP server on a free port of loopback."""
    hook = HookServer()
    if behave is not None:
        hook.behave = behave
    handler = type("Handler", (_Handler,), {"hook": hook})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
