"""`TunnelService`: tunnels on the wire. A tunnel lives as long as the call that opened it."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Final

from tenantry.master.domain.access import EVERYTHING, Permission
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations import journal
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.tunnels.book import TunnelBook
from tenantry.master.operations.tunnels.live import LiveTunnel
from tenantry.master.operations.tunnels.opening import Asked, TunnelDesk
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.callers import ACTOR, RECORDED, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.tunnel_messages import decode_targets, encode_tunnel
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, NotAllowed, TunnelNotFound
from tenantry.protocol.names import MAX_REASON, check_text
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.transport.wire_values import from_duration, to_timestamp
from tenantry.v1 import tunnel_pb2, tunnel_service_pb2_grpc
from tenantry.v1 import tunnel_service_pb2 as pb

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1_000
PACE_S: Final = 1.0
"""Least time between two answers about a tunnel that is open."""
_KEY_BYTES: Final = 32


class TunnelServicer(tunnel_service_pb2_grpc.TunnelServiceServicer):
    """Wire <-> `operations.tunnels`."""

    def __init__(
        self,
        desk: TunnelDesk,
        book: TunnelBook,
        committer: Committer,
        reader: StoreReader,
        visibility: Visibility,
        clocks: Clocks,
        server_name: str,
        port: int,
    ) -> None:
        """``server_name`` and ``port``: of the listener `tunnels`, as operators dial it."""
        self._desk = desk
        self._book = book
        self._committer = committer
        self._reader = reader
        self._visibility = visibility
        self._clocks = clocks
        self._server_name = server_name
        self._port = port

    async def OpenTunnel(self, request: pb.OpenTunnelRequest, context: Context) -> AsyncIterator[pb.OpenTunnelResponse]:
        targets = decode_targets(request.targets)
        asked = Asked(request.tenant, targets, request.reason, from_duration(request.duration))
        key = secrets.token_urlsafe(_KEY_BYTES)
        tunnel = await self._desk.ask(VIEWER.get(), ACTOR.get(), asked, str(uuid.uuid4()), key)
        # From here on the tunnel's own records say what becomes of it.
        RECORDED.set(True)
        shown, confirmed = tunnel.facts, False
        try:
            yield pb.OpenTunnelResponse(tunnel=_encode(tunnel))
            while await tunnel.changed():
                if tunnel.is_open and not confirmed:
                    await self._desk.confirm(tunnel)
                    confirmed = True
                    yield pb.OpenTunnelResponse(
                        tunnel=_encode(tunnel),
                        key=key,
                        port=self._port,
                        server_name=self._server_name,
                        console_path=tunnel.console_path,
                    )
                elif confirmed or tunnel.facts is not shown:
                    yield pb.OpenTunnelResponse(tunnel=_encode(tunnel))
                shown = tunnel.facts
                if confirmed:
                    await asyncio.sleep(PACE_S)
        finally:
            self._desk.leave(tunnel)
        facts = tunnel.facts
        raise failure_of_end(facts.end or TunnelEnd.MASTER_STOPPED, facts.end_detail, tunnel.guid)

    async def GetTunnel(self, request: pb.GetTunnelRequest, context: Context) -> pb.GetTunnelResponse:
        found, guid = await self._find(VIEWER.get(), request.id)
        return pb.GetTunnelResponse(tunnel=self._encode_one(found, guid))

    async def ListTunnels(self, request: pb.ListTunnelsRequest, context: Context) -> pb.ListTunnelsResponse:
        viewer, size = VIEWER.get(), page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        listing = (request.tenant, request.show_closed)
        place = decode_page_token(listing, request.page_token)
        before = (int(place[0]), str(place[1])) if place else None
        if request.tenant:
            self._visibility.require(viewer, Permission.TUNNEL_READ, request.tenant)
        sight = self._visibility.sight(viewer, Permission.TUNNEL_READ)

        def read(transaction: Transaction) -> tuple[Sequence[Tunnel], dict[int, str]]:
            at = transaction.tenants.get(request.tenant).id if request.tenant else None
            page = transaction.tunnels.page(before, size + 1, sight, tenant_id=at, closed=request.show_closed)
            standings = transaction.tenants.standings_of({tunnel.tenant_id for tunnel in page})
            return page, {number: standing.guid for number, standing in standings.items()}

        found, guids = await self._reader.run(read, sight)
        last = (found[size - 1].created_ms, found[size - 1].id) if len(found) > size else None
        return pb.ListTunnelsResponse(
            tunnels=[self._encode_one(tunnel, guids.get(tunnel.tenant_id, "")) for tunnel in found[:size]],
            next_page_token=encode_page_token(listing, last) if last else "",
            read_time=to_timestamp(self._clocks.wall_ms()),
        )

    async def CloseTunnel(self, request: pb.CloseTunnelRequest, context: Context) -> pb.CloseTunnelResponse:
        viewer, actor, now_ms = VIEWER.get(), ACTOR.get(), self._clocks.wall_ms()
        reason = check_text(request.reason.strip(), "reason", MAX_REASON)
        found, guid = await self._find(viewer, request.id)
        own = found.user_id == viewer.user_id
        if not own and not viewer.access.allows(Permission.TUNNEL_CLOSE, found.tenant_id):
            raise NotAllowed(permission=Permission.TUNNEL_CLOSE)
        tunnel = self._book.get(found.id)
        living = tunnel is not None and not tunnel.is_over
        record = journal.audit(
            actor,
            "tunnel.close",
            now_ms,
            found.tenant_id,
            None,
            tunnel=found.id,
            reason=reason,
            **journal.if_unchanged(living),
        )
        await self._committer.run(lambda transaction: transaction.records.append([record]))
        if tunnel is not None:
            end = TunnelEnd.BY_OPERATOR if own else TunnelEnd.BY_ADMINISTRATOR
            self._book.end(tunnel, end, reason, by=actor)
            return pb.CloseTunnelResponse(tunnel=_encode(tunnel))
        if not found.is_over:  # its end has become durable since it was read
            found, guid = await self._find(viewer, found.id)
        return pb.CloseTunnelResponse(tunnel=encode_tunnel(found, guid, 0))

    async def _find(self, viewer: Viewer, tunnel_id: str) -> tuple[Tunnel, str]:
        """The tunnel and its Tenant's GUID. Raises FieldInvalid, and TunnelNotFound also where the caller does not see the Tenant."""
        if not tunnel_id:
            raise FieldInvalid(field="id", problem="is empty", expected="the id of a tunnel")
        sight = self._visibility.sight(viewer, Permission.TUNNEL_READ)

        def read(transaction: Transaction) -> tuple[Tunnel, str]:
            found = transaction.tunnels.get(tunnel_id)
            return found, transaction.tenants.by_id(found.tenant_id).guid

        found, guid = await self._reader.run(read, EVERYTHING)
        if sight.tenant_ids is not None and found.tenant_id not in sight.tenant_ids:
            raise TunnelNotFound(tunnel=tunnel_id)
        return found, guid

    def _encode_one(self, stored: Tunnel, guid: str) -> tunnel_pb2.Tunnel:
        """As it is now, where it lives; as it is stored otherwise."""
        tunnel = self._book.get(stored.id)
        return encode_tunnel(stored, guid, 0) if tunnel is None else _encode(tunnel)


def _encode(tunnel: LiveTunnel) -> tunnel_pb2.Tunnel:
    return encode_tunnel(tunnel.snapshot(), tunnel.guid, tunnel.joined)
