"""The console's requests, as an ASGI application: files, calls, and the session between them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from google.rpc import error_details_pb2

from tenantry.master.console import connect, cookies
from tenantry.master.console.connect import Call, Ending, Refused, check_head, read_call
from tenantry.master.console.defences import HEADERS, NOT_KEPT, is_same_origin
from tenantry.master.console.forwarding import CallFailed, Forwarder
from tenantry.master.console.pages import Pages
from tenantry.master.rpc.refusal_lines import RefusalLines
from tenantry.protocol.failures import NotSignedIn, SessionEnded
from tenantry.protocol.joining import join_address
from tenantry.transport.settings import MAX_RECEIVE_BYTES
from tenantry.v1 import openid_service_pb2, session_service_pb2

BODY_S: Final = 20.0
"""How long a browser may take to send its request."""
BODIES: Final = 32 << 20
"""Bytes of requests that are held at once, of all browsers together: strangers send as much as they like."""
LINGER_S: Final = 0.005
"""How long the messages of a stream are gathered, so that a thousand Tenants are not a thousand writes."""
HIGH_WATER: Final = 256 * 1024
"""Bytes that wait for a slow browser before the stream is read no further."""

_LONGEST_PATH: Final = 200
_BODILESS: Final = ("GET", "HEAD")
_SIGN_IN: Final = "/tenantry.v1.SessionService/SignIn"
_SIGN_OUT: Final = "/tenantry.v1.SessionService/SignOut"
_SIGN_INS: Final[Mapping[str, type[Any]]] = {
    _SIGN_IN: session_service_pb2.SignInResponse,
    "/tenantry.v1.OpenIdService/FinishSignIn": openid_service_pb2.FinishSignInResponse,
    "/tenantry.v1.OpenIdService/FinishDeviceSignIn": openid_service_pb2.FinishDeviceSignInResponse,
}
_OVER: Final = frozenset({NotSignedIn.reason, SessionEnded.reason})

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Fields = tuple[tuple[str, str], ...]


class Console:
    """The application. ``methods`` are the paths that are calls, with whether each answers with a stream."""

    def __init__(self, pages: Pages, forwarder: Forwarder, methods: Mapping[str, bool]) -> None:
        self._pages = pages
        self._forwarder = forwarder
        self._methods = methods
        self._held = 0
        self._lines = RefusalLines("console request refused")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _read_headers(scope)
        streaming = self._methods.get(scope["path"])
        try:
            # Whatever the answer will be: what comes after it would cost everything else on the connection.
            async with self._read_body(scope, receive) as body:
                if streaming is None:
                    await self._show(scope, headers, send)
                    return
                if not is_same_origin(headers):
                    ending = Ending("permission_denied", "this call does not come from a page of this console")
                    raise Refused(HTTPStatus.FORBIDDEN, ending)
                check_head(scope["method"], headers, streaming=streaming)
                call = read_call(scope["path"], headers, body, streaming=streaming)
                token = cookies.session_token(headers.get("cookie", ""))
                if call.method == _SIGN_IN:
                    call = _with_proof(call, cookies.sign_in_proof(headers.get("cookie", "")))
                if streaming:
                    await self._stream(call, token, _browser(scope), receive, send)
                else:
                    await self._call(call, token, _browser(scope), send)
        except Refused as refused:
            path = scope["path"]
            # Strangers think up as many paths as they like: all that are no calls are one kind.
            kind = path if path in self._methods else "page"
            self._lines.write(kind, str(int(refused.status)), path=path[:_LONGEST_PATH], cause=str(refused))
            await _reply_error(send, refused.status, refused.ending, refused.headers)
        except _Gone:
            pass

    @asynccontextmanager
    async def _read_body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """The body, which counts as held until the block ends; one that is too much is read and not kept. Raises Refused."""
        body, length, more = bytearray(), 0, scope["method"] not in _BODILESS
        try:
            async with _in_time():
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part, more = message["body"], message["more_body"]
                    length += len(part)
                    if length <= MAX_RECEIVE_BYTES and self._held + len(part) <= BODIES:
                        body += part
                        self._held += len(part)
            if length > MAX_RECEIVE_BYTES:
                ending = Ending("resource_exhausted", f"a request has at most {MAX_RECEIVE_BYTES} bytes")
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ending)
            if length > len(body):
                ending = Ending("unavailable", "too many requests at once; try again in a moment")
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, ending)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _show(self, scope: Scope, headers: Mapping[str, str], send: Send) -> None:
        if scope["method"] not in _BODILESS:
            await _reply(send, HTTPStatus.METHOD_NOT_ALLOWED, b"", (("allow", "GET, HEAD"), *NOT_KEPT))
            return
        page = self._pages.find(scope["path"])
        if page is None:
            await _reply(send, HTTPStatus.NOT_FOUND, b"", NOT_KEPT)
            return
        fields: Fields = (("content-type", page.kind), *page.headers)
        body = page.body
        if page.packed is not None:
            fields += (("vary", "accept-encoding"),)
            if "gzip" in headers.get("accept-encoding", ""):
                body, fields = page.packed, (*fields, ("content-encoding", "gzip"))
        await _reply(send, page.status, body, fields)

    async def _call(self, call: Call, token: str | None, browser: str, send: Send) -> None:
        try:
            answer = await self._forwarder.call(call, token, browser)
        except CallFailed as failed:
            over = token is not None and _is_over(failed.ending)
            await _reply_error(send, failed.ending.status, failed.ending, (cookies.let_go(),) if over else ())
            return
        fields: Fields = (("content-type", connect.UNARY), *NOT_KEPT)
        if call.method in _SIGN_INS:
            answer, secret, proof = _take_secrets(_SIGN_INS[call.method], answer)
            fields += (cookies.hold(secret),) if secret else ()
            fields += (cookies.hold_proof(proof),) if proof else ()
        elif call.method == _SIGN_OUT:
            fields += (cookies.let_go(),)
        await _reply(send, HTTPStatus.OK, answer, fields)

    async def _stream(self, call: Call, token: str | None, browser: str, receive: Receive, send: Send) -> None:
        await _start(send, HTTPStatus.OK, (("content-type", connect.STREAM), *NOT_KEPT))
        outgoing = _Outgoing(send)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(call, token, browser, outgoing))
            writing = group.create_task(outgoing.write())
            leaving = group.create_task(_wait_until_gone(receive))
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, writing, leaving):
                task.cancel()

    async def _read(self, call: Call, token: str | None, browser: str, outgoing: "_Outgoing") -> None:
        ending = None
        try:
            async with aclosing(self._forwarder.stream(call, token, browser)) as answers:
                async for answer in answers:
                    await outgoing.put(connect.envelope(answer))
        except CallFailed as failed:
            ending = failed.ending
        await outgoing.end(connect.end_of_stream(ending))


class _Gone(Exception):
    """The browser has gone before it had sent its request."""


class _Outgoing:
    """The bytes of a stream on their way to the browser: gathered for a moment, and bounded."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting = bytearray()
        self._ended = False
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Add to what waits; waits itself while that is too much."""
        self._waiting += data
        self._filled.set()
        if len(self._waiting) >= HIGH_WATER:
            self._drained.clear()
            await self._drained.wait()

    async def end(self, data: bytes) -> None:
        """Add the last."""
        self._ended = True
        await self.put(data)

    async def write(self) -> None:
        """Send until the end is sent."""
        more = True
        while more:
            await self._filled.wait()
            await asyncio.sleep(LINGER_S)
            self._filled.clear()
            data, more = bytes(self._waiting), not self._ended
            self._waiting.clear()
            self._drained.set()
            await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _with_proof(call: Call, proof: str | None) -> Call:
    """A sign-in with the proof of an earlier one from the cookie, which the page that asks cannot read."""
    if proof is None:
        return call
    # Of a field that comes twice the last one counts: the message itself need not be read for this.
    return replace(call, message=call.message + session_service_pb2.SignInRequest(proof=proof).SerializeToString())


def _take_secrets(kind: type[Any], answer: bytes) -> tuple[bytes, str, str]:
    """The answer of a sign-in without what no script is to see: the token of its session, and the proof. And these two."""
    message = kind.FromString(answer)
    session = message if isinstance(message, session_service_pb2.SignInResponse) else message.session
    secret, proof = str(session.token), str(session.proof)
    if secret:
        session.ClearField("token")
        session.ClearField("proof")
    return bytes(message.SerializeToString()), secret, proof


def _is_over(ending: Ending) -> bool:
    """Whether the session is what is wrong, and not a password or a code."""
    for name, value in ending.details:
        if name == error_details_pb2.ErrorInfo.DESCRIPTOR.full_name:
            return error_details_pb2.ErrorInfo.FromString(value).reason in _OVER
    return False


def _read_headers(scope: Scope) -> Mapping[str, str]:
    """Names in lower case. Cookies may come in several headers (RFC 9113, 8.2.3); of others the first counts."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "cookie" and name in headers:
            headers[name] += f"; {value}"
        else:
            headers.setdefault(name, value)
    return headers


def _browser(scope: Scope) -> str:
    """Where the connection comes from; headers such as X-Forwarded-For, which anybody can write, say nothing."""
    client = scope["client"]
    return "unknown" if client is None else join_address(client[0], client[1])


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(BODY_S):
            yield
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, Ending("deadline_exceeded", "the request came too slowly")) from None


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, fields: Fields) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*HEADERS, *fields)]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})


async def _reply(send: Send, status: int, body: bytes, fields: Fields) -> None:
    await _start(send, status, (*fields, ("content-length", str(len(body)))))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _reply_error(send: Send, status: int, ending: Ending, fields: Fields = ()) -> None:
    body = json.dumps(ending.as_json()).encode()
    await _reply(send, status, body, (("content-type", connect.ERROR), *NOT_KEPT, *fields))
