"""The server on a real socket with real certificates, and raw clients of it."""

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2 import frames
from tenantry.master.http2.fields import encode_fields
from tenantry.master.http2.limits import LIMITS, Limits
from tenantry.master.http2.server import Server
from tenantry.master.http2.tls import MutualTls
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.issuing import issue_server_certificate, issue_tenant_certificate
from tenantry.protocol.names import listener_name
from tenantry.transport.settings import client_options
from tests.master.http2.talking import REQUEST, Frame, split_frames
from tests.master.pki.samples import GUID, TRUST_DOMAIN, make_request

NAME = listener_name("link", TRUST_DOMAIN)
ANSWER = 60_000
"""Bytes of each message that `Pour` gives without an end."""


@dataclass(frozen=True, slots=True)
class Papers:
    """An authority, and what one Tenant of it has."""

    authority: Authority
    folder: Path
    key: bytes
    chain: bytes

    def context(self, *, certificate: bool = True) -> ssl.SSLContext:
        """TLS of a client; without a certificate of its own where it should have none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority.root_pem.decode())
        context.set_alpn_protocols(["h2"])
        if certificate:
            files = self.folder / "tenant.pem", self.folder / "tenant.key"
            for file, data in zip(files, (self.chain, self.key), strict=True):
                file.write_bytes(data)
            context.load_cert_chain(*files)
        return context


def make_papers(folder: Path) -> Papers:
    """A new authority, and a Tenant's certificate of it."""
    now = time.time_ns() // 1_000_000
    authority = AuthorityFolder(folder / "pki").create(TRUST_DOMAIN, now)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issue_tenant_certificate(authority, make_request(key), GUID, TRUST_DOMAIN, now, 3_600_000)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Papers(authority, folder, pem, issued.chain_pem)


def mutual_tls(papers: Papers) -> MutualTls:
    """A server's certificate of this authority, for Tenants of this authority."""
    issued = issue_server_certificate(papers.authority, ["127.0.0.1"], TRUST_DOMAIN, time.time_ns() // 1_000_000)
    return MutualTls(
        papers.folder, issued.key_pem, issued.chain_pem, papers.authority.root_pem + papers.authority.intermediate_pem
    )


class Services:
    """What the server serves, and what its handlers have seen."""

    def __init__(self) -> None:
        self.running = 0
        self.seen: list[str] = []

    async def echo(self, request: bytes, context: Any) -> bytes:
        """One message back."""
        self.seen.append(context.peer())
        return request

    async def chat(self, _requests: object, context: Any) -> None:
        """Every message back."""
        self.running += 1
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                await context.write(request)
        except grpc.aio.InternalError:
            self.seen.append("written to nobody")
        finally:
            self.running -= 1

    async def pour(self, _request: bytes, context: Any) -> None:
        """Answers without an end."""
        self.running += 1
        try:
            while True:
                await context.write(bytes(ANSWER))
        finally:
            self.running -= 1

    async def sleep(self, _request: bytes, _context: Any) -> bytes:
        """No answer."""
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1
        return b""

    async def refuse(self, _request: bytes, context: Any) -> bytes:
        """A status."""
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nö", (("why-bin", b"\x00"),))
        return b""

    async def break_down(self, _request: bytes, _context: Any) -> bytes:
        """A fault."""
        raise RuntimeError("broken")

    def handlers(self) -> grpc.GenericRpcHandler:
        """As gRPC's own server would take them."""
        unary: Any = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            "test.Talk",
            {
                "Echo": unary(self.echo),
                "Sleep": unary(self.sleep),
                "Refuse": unary(self.refuse),
                "Break": unary(self.break_down),
                "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
                "Pour": grpc.unary_stream_rpc_method_handler(self.pour),
            },
        )


@dataclass
class Served:
    """A server that runs."""

    server: Server
    tls: MutualTls
    services: Services
    papers: Papers
    port: int
    ended: "Counter[ConnectionEnd]"
    """Connections that it has ended because of their peers."""

    def channel(self) -> grpc.aio.Channel:
        """A channel of gRPC's own."""
        credentials = grpc.ssl_channel_credentials(self.papers.authority.root_pem, self.papers.key, self.papers.chain)
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=client_options(NAME))

    @contextlib.asynccontextmanager
    async def peer(self, *, greet: bool = True) -> AsyncIterator["RawPeer"]:
        """A client that sends what the test wants."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.papers.context(), server_hostname=NAME
        )
        try:
            peer = RawPeer(reader, writer)
            if greet:
                peer.say(frames.PREFACE, frames.settings({}))
            yield peer
        finally:
            writer.transport.abort()


class RawPeer:
    """A client without manners."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = b""

    def say(self, *data: bytes) -> None:
        """Send this."""
        self._writer.write(b"".join(data))

    def call(self, method: str, stream: int = 1) -> None:
        """Begin a call."""
        fields = tuple(
            (name, f"/test.Talk/{method}".encode() if name == b":path" else value) for name, value in REQUEST
        )
        self.say(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, encode_fields(fields)))

    async def hear(self, kind: int) -> Frame:
        """The next frame of a kind. Raises EOFError when the server has closed."""
        while True:
            size = int.from_bytes(self._heard[:3]) + frames.HEAD_BYTES
            if len(self._heard) >= max(size, frames.HEAD_BYTES):
                (frame,), self._heard = split_frames(self._heard[:size]), self._heard[size:]
                if frame.kind == kind:
                    return frame
                continue
            try:
                data = await self._reader.read(65_536)
            except OSError:
                data = b""
            if not data:
                raise EOFError
            self._heard += data

    async def until_closed(self) -> None:
        """Return when the server has closed the connection."""
        with contextlib.suppress(EOFError):
            await self.hear(-1)


@contextlib.asynccontextmanager
async def serving(papers: Papers, limits: Limits = LIMITS, *, threads: int = 1) -> AsyncIterator[Served]:
    """A server with `Services`, until the block ends."""
    ended: Counter[ConnectionEnd] = Counter()
    tls, services = mutual_tls(papers), Services()
    server = Server([], tls, lambda end, _peer, _cause: ended.update((end,)), threads=threads, limits=limits)
    server.add_generic_rpc_handlers([services.handlers()])
    port = server.bind("127.0.0.1", 0)
    async with server.serving():
        yield Served(server, tls, services, papers, port, ended)
