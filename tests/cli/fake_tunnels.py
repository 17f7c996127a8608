# ruff: noqa: ARG002, N802 - the names and parameters are those of the generated servicers
"""The fake Master's tunnels. There is no Tenant: what a tunnel leads to is dialled right here."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from tenantry.protocol.failures import (
    Failure,
    TargetNotFound,
    TargetRefused,
    TenantNotConnected,
    TunnelClosed,
    TunnelKeyRefused,
    TunnelNotFound,
)
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.v1 import tunnel_pb2 as pb
from tenantry.v1 import tunnel_relay_service_pb2 as relay_pb
from tenantry.v1 import tunnel_relay_service_pb2_grpc as relay_grpc
from tenantry.v1 import tunnel_service_pb2 as service_pb
from tenantry.v1 import tunnel_service_pb2_grpc as service_grpc

if TYPE_CHECKING:
    from tests.cli.fake_master import FakeMaster

WINDOW = 256 * 1024
READ = 64 * 1024


@dataclass
class TunnelBook:
    """What there is of tunnels. Tests read and change it."""

    tunnels: dict[str, pb.Tunnel] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    """The port on this machine of each target, as `host:port`, that a Tenant can reach."""
    dial_failures: dict[str, Failure] = field(default_factory=dict)
    endings: dict[str, Failure] = field(default_factory=dict)
    """How tunnels end that somebody else ends, by id."""
    asks_for_consent: bool = False
    away: bool = False
    """Whether the Tenant has no link."""
    console_path: str = "/#ticket=once"
    largest_page: int = 1_000
    dialled: list[str] = field(default_factory=list)

    def add(self, tenant: str, **fields: Any) -> pb.Tunnel:
        """Put a tunnel there, as if somebody had opened it."""
        tunnel = pb.Tunnel(
            id=str(uuid.uuid4()),
            tenant=tenant,
            operator=fields.pop("operator", "first"),
            state=fields.pop("state", pb.TUNNEL_STATE_OPEN),
            create_time=moment(),
            end_time=moment(3_600),
            **fields,
        )
        self.tunnels[tunnel.id] = tunnel
        return tunnel

    def open_ones(self) -> list[pb.Tunnel]:
        """Those that are not over."""
        return [tunnel for tunnel in self.tunnels.values() if tunnel.state != pb.TUNNEL_STATE_CLOSED]


def moment(later_s: float = 0) -> Timestamp:
    """Now, or later."""
    return Timestamp(seconds=int(time.time() + later_s))


class Tunnels(service_grpc.TunnelServiceServicer):
    """What the contract says, on a dictionary."""

    def __init__(self, master: FakeMaster) -> None:
        self._master = master
        self._book = master.tunnels

    async def OpenTunnel(self, request: service_pb.OpenTunnelRequest, context: Any) -> AsyncIterator[Any]:
        self._master.find(request.tenant)
        if self._book.away:
            raise TenantNotConnected(tenant=request.tenant)
        tunnel = self._book.add(
            request.tenant, state=pb.TUNNEL_STATE_ASKED, targets=request.targets, reason=request.reason
        )
        try:
            yield service_pb.OpenTunnelResponse(tunnel=tunnel)
            while self._book.asks_for_consent:
                if tunnel.state == pb.TUNNEL_STATE_ASKED:
                    tunnel.state = pb.TUNNEL_STATE_WAITING_FOR_CONSENT
                    yield service_pb.OpenTunnelResponse(tunnel=tunnel)
                await self._next(tunnel.id)
            tunnel.state = pb.TUNNEL_STATE_OPEN
            tunnel.open_time.CopyFrom(moment())
            key = self._book.keys[tunnel.id] = secrets.token_urlsafe(32)
            yield service_pb.OpenTunnelResponse(
                tunnel=tunnel,
                key=key,
                port=self._master.port,
                server_name="tunnels.tenantry.internal",
                console_path=self._book.console_path if any(one.host == "console" for one in request.targets) else "",
            )
            while True:
                await self._next(tunnel.id)
        finally:
            tunnel.state = pb.TUNNEL_STATE_CLOSED
            tunnel.end = tunnel.end or pb.TUNNEL_END_BY_OPERATOR
            self._book.keys.pop(tunnel.id, None)

    async def _next(self, tunnel_id: str) -> None:
        """Wait a moment. Raises the end of the tunnel."""
        await self._master.changed(0.1)
        if self._master.stopping.is_set():
            end = TunnelEnd.MASTER_STOPPED
            raise TunnelClosed(end=end.value, detail=end.describe())
        if tunnel_id in self._book.endings:
            raise self._book.endings[tunnel_id]

    async def GetTunnel(self, request: service_pb.GetTunnelRequest, context: Any) -> Any:
        return service_pb.GetTunnelResponse(tunnel=self._find(request.id))

    async def ListTunnels(self, request: service_pb.ListTunnelsRequest, context: Any) -> Any:
        found = [
            tunnel
            for tunnel in reversed(self._book.tunnels.values())
            if request.tenant in ("", tunnel.tenant) and (request.show_closed or tunnel.state != pb.TUNNEL_STATE_CLOSED)
        ]
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 100, self._book.largest_page)
        token = str(end) if end < len(found) else ""
        return service_pb.ListTunnelsResponse(tunnels=found[start:end], next_page_token=token, read_time=moment())

    async def CloseTunnel(self, request: service_pb.CloseTunnelRequest, context: Any) -> Any:
        tunnel = self._find(request.id)
        if tunnel.state != pb.TUNNEL_STATE_CLOSED:
            end = TunnelEnd.BY_ADMINISTRATOR
            tunnel.state, tunnel.end, tunnel.end_detail = pb.TUNNEL_STATE_CLOSED, end.number, request.reason  # type: ignore[assignment]
            self._book.endings[tunnel.id] = TunnelClosed(end=end.value, detail=request.reason or end.describe())
            await self._master.notify()
        return service_pb.CloseTunnelResponse(tunnel=tunnel)

    def _find(self, tunnel_id: str) -> pb.Tunnel:
        if tunnel_id not in self._book.tunnels:
            raise TunnelNotFound(tunnel=tunnel_id)
        return self._book.tunnels[tunnel_id]


class Relay(relay_grpc.TunnelRelayServiceServicer):
    """Both hops in one: the operator's stream, and the target's socket behind it."""

    def __init__(self, book: TunnelBook) -> None:
        self._book = book

    async def Dial(self, request_iterator: AsyncIterator[relay_pb.DialRequest], context: Any) -> None:  # type: ignore[override]
        begin = (await anext(request_iterator)).begin
        if not begin.key or self._book.keys.get(begin.tunnel_id) != begin.key:
            raise TunnelKeyRefused
        tunnel = self._book.tunnels[begin.tunnel_id]
        target = f"{begin.target.host}:{begin.target.port}"
        self._book.dialled.append(target)
        if target in self._book.dial_failures:
            raise self._book.dial_failures[target]
        if target not in self._book.places:
            raise TargetNotFound(target=target)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._book.places[target])
        except ConnectionRefusedError:
            raise TargetRefused(target=target) from None
        tunnel.connections += 1
        tunnel.open_connections += 1
        try:
            await context.write(relay_pb.DialResponse(joined=pb.TunnelJoined(window=WINDOW)))
            await _Joint(tunnel, reader, writer, context, begin.window).run(request_iterator)
        finally:
            tunnel.open_connections -= 1
            writer.close()

    async def Answer(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        raise AssertionError("there are no Tenants here")


class _Joint:
    """Copies in both directions, within what each end allows."""

    def __init__(
        self, tunnel: pb.Tunnel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: Any, window: int
    ) -> None:
        self._tunnel = tunnel
        self._reader = reader
        self._writer = writer
        self._context = context
        self._allowed = window
        self._more = asyncio.Event()
        self._said_all = asyncio.Event()
        self._writing = asyncio.Lock()

    async def run(self, requests: AsyncIterator[relay_pb.DialRequest]) -> None:
        async with asyncio.TaskGroup() as group:
            up = group.create_task(self._up(requests))
            if await self._down():
                await self._said_all.wait()
            up.cancel()

    async def _write(self, **member: Any) -> None:
        async with self._writing:
            await self._context.write(relay_pb.DialResponse(**member))

    async def _down(self) -> bool:
        """Whether the target ended it in order."""
        while True:
            while not self._allowed:
                self._more.clear()
                await self._more.wait()
            try:
                data = await self._reader.read(min(READ, self._allowed))
            except ConnectionError:
                await self._write(reset=pb.TunnelReset(end=pb.TUNNEL_END_RESET, detail="reset by the target"))
                return False
            if not data:
                await self._write(fin=pb.TunnelFin())
                return True
            self._allowed -= len(data)
            self._tunnel.bytes_down += len(data)
            await self._write(data=data)

    async def _up(self, requests: AsyncIterator[relay_pb.DialRequest]) -> None:
        held = WINDOW
        async for request in requests:
            match request.WhichOneof("message"):
                case "data":
                    held -= len(request.data)
                    assert held >= 0, "more was sent than was allowed"
                    self._writer.write(request.data)
                    await self._writer.drain()
                    held += len(request.data)
                    self._tunnel.bytes_up += len(request.data)
                    await self._write(credit=pb.TunnelCredit(bytes=len(request.data)))
                case "credit":
                    self._allowed += request.credit.bytes
                    self._more.set()
                case "fin":
                    self._writer.write_eof()
                    self._said_all.set()
                case _:
                    self._writer.transport.abort()
                    self._said_all.set()
                    return
