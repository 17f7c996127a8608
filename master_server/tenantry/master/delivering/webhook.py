"""Webhooks: one HTTP/1.1 request over a connection that was judged before. Of the answer only its head is read."""

import base64
import hashlib
import hmac
from typing import Final
from urllib.parse import urlsplit

import h11

from tenantry.master.delivering.dialling import Dialler, Streams, tls_context
from tenantry.master.delivering.outgoing import NotTaken, Outgoing
from tenantry.master.delivering.templates import one_line
from tenantry.master.domain.receivers import (
    HEADER_SECRET,
    PASSWORD,
    PATH_SECRET,
    SIGNING_KEY,
    TOKEN,
    Protection,
    WebhookSettings,
)

MAX_HEAD: Final = 16_384
"""Bytes of an answer's head; more is no HTTP that is listened to."""
MAX_HEADER: Final = 4_096
_STEP: Final = 4_096
_UNSUITABLE: Final = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431})
"""Who answers so will answer so again to the same request."""


class WebhookSender:
    """Sends one request a connection, and follows nowhere."""

    def __init__(self, dialler: Dialler) -> None:
        self._dialler = dialler

    async def send(self, outgoing: Outgoing, settings: WebhookSettings) -> str:
        """How it was taken. Raises NotTaken, NotReached, OSError."""
        destination = settings.destination
        secure = destination.protection is Protection.TLS
        body = outgoing.texts["payload"].encode(errors="replace")
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        try:
            request = h11.Request(
                method=settings.method, target=_target(outgoing, settings), headers=_headers(outgoing, settings, body)
            )
            head = connection.send(request) or b""
        except h11.LocalProtocolError:
            raise NotTaken("the request cannot be written as HTTP", permanent=True) from None
        octets = head + (connection.send(h11.Data(data=body)) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        context = tls_context(settings.authorities) if secure else None
        async with self._dialler.streams(destination, context) as streams:
            streams.writer.write(octets)
            return _judge(await _answer(connection, streams))


async def _answer(connection: h11.Connection, streams: Streams) -> h11.Response:
    read = 0
    while True:
        try:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = await streams.reader.read(_STEP)
                read += len(data)
                if read > MAX_HEAD:
                    raise NotTaken("the server does not come to the end of its answer's head")
                connection.receive_data(data)
        except h11.RemoteProtocolError:
            raise NotTaken("the server does not speak HTTP, or hung up") from None
        if isinstance(event, h11.Response):
            return event
        if isinstance(event, h11.ConnectionClosed):
            raise NotTaken("the server hung up without an answer")


def _judge(response: h11.Response) -> str:
    status = response.status_code
    if 200 <= status < 300:
        return f"taken: HTTP {status}"
    if 300 <= status < 400:
        raise NotTaken(f"HTTP {status}: the server wants to send it elsewhere, and no redirect is followed")
    raise NotTaken(f"HTTP {status}", permanent=status in _UNSUITABLE, wish_ms=_wish_ms(response))


def _wish_ms(response: h11.Response) -> int:
    """What `Retry-After` asks for, in seconds alone: dates would be of a strange clock."""
    for name, value in response.headers:
        if name == b"retry-after" and value.isdigit() and len(value) <= 9:
            return int(value) * 1_000
    return 0


def _target(outgoing: Outgoing, settings: WebhookSettings) -> str:
    parts = urlsplit(settings.url)
    return outgoing.secrets.get(PATH_SECRET) or (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _headers(outgoing: Outgoing, settings: WebhookSettings, body: bytes) -> list[tuple[bytes, bytes]]:
    secrets = outgoing.secrets
    found = [
        (b"Host", urlsplit(settings.url).netloc.encode()),
        (b"User-Agent", b"tenantry-master"),
        (b"Connection", b"close"),
        (b"Content-Type", settings.content_type.encode()),
        (b"Content-Length", str(len(body)).encode()),
        (b"Idempotency-Key", outgoing.key.encode()),
    ]
    for name, _ in settings.headers:
        value = one_line(outgoing.texts[f"header {name}"])[:MAX_HEADER]
        found.append((name.encode(), value.encode("ascii", errors="replace")))
    for name, secret in secrets.items():
        if name.startswith(HEADER_SECRET):
            found.append((name.removeprefix(HEADER_SECRET).encode(), secret.encode()))
    if TOKEN in secrets:
        found.append((b"Authorization", b"Bearer " + secrets[TOKEN].encode()))
    elif PASSWORD in secrets:
        pair = f"{settings.user}:{secrets[PASSWORD]}".encode()
        found.append((b"Authorization", b"Basic " + base64.b64encode(pair)))
    if SIGNING_KEY in secrets:
        found.append((b"Tenantry-Signature", sign(secrets[SIGNING_KEY], outgoing.now_ms // 1_000, body)))
    return found


def sign(key: str, seconds: int, body: bytes) -> bytes:
    """``t=SECONDS,v1=HEX``: HMAC-SHA256 with the key over the Unix time of the attempt, a dot, and the body."""
    digest = hmac.new(key.encode(), b"%d.%b" % (seconds, body), hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}".encode()
