"""`DeliveryService`: the outbox on the wire."""

from collections.abc import Sequence
from dataclasses import replace

from tenantry.master.domain.access import MAIN_OWNER, Permission, Sight, sight_of
from tenantry.master.domain.deliveries import Delivery
from tenantry.master.operations import outbox
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.receiver_rights import ReceiverRights, receiver_rights
from tenantry.master.operations.receiving import names_of
from tenantry.master.operations.roles import find_owner
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.receiver_messages import decode_delivery_filter, encode_delivery
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import DeliveryNotFound, NotAllowed
from tenantry.v1 import delivery_service_pb2 as pb
from tenantry.v1 import delivery_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000


def find_delivery(transaction: Transaction, uid: str, sight: Sight) -> Delivery:
    """The delivery. Raises DeliveryNotFound, also where it is not within sight."""
    found = transaction.deliveries.get(uid)
    if not _within(found, sight):
        raise DeliveryNotFound(delivery=uid)
    return found


class DeliveryServicer(delivery_service_pb2_grpc.DeliveryServiceServicer):
    """Wire <-> `operations.outbox` and the store."""

    def __init__(
        self, committer: Committer, reader: StoreReader, visibility: Visibility, clocks: Clocks, lifetime_ms: int
    ) -> None:
        self._committer = committer
        self._reader = reader
        self._visibility = visibility
        self._clocks = clocks
        self._lifetime_ms = lifetime_ms

    async def GetDelivery(self, request: pb.GetDeliveryRequest, context: Context) -> pb.GetDeliveryResponse:
        sight, receivers = self._sight(Permission.DELIVERY_READ), self._receivers()

        def read(transaction: Transaction) -> pb.Delivery:
            return self._encode(transaction, receivers, [find_delivery(transaction, request.id, sight)])[0]

        return pb.GetDeliveryResponse(delivery=await self._reader.run(read, sight.joined(receivers.sight)))

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Context) -> pb.ListDeliveriesResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        wanted = decode_delivery_filter(request.filter)
        listing = request.filter.SerializeToString(deterministic=True)
        place = decode_page_token(listing, request.page_token)
        before = (int(place[0]), str(place[1])) if place else None
        owner, sight, receivers = request.filter.owner, self._sight(Permission.DELIVERY_READ), self._receivers()
        if owner:
            self._visibility.require_at(VIEWER.get(), Permission.DELIVERY_READ, owner)

        def read(transaction: Transaction) -> pb.ListDeliveriesResponse:
            narrowed = replace(wanted, owner=find_owner(transaction, owner)) if owner else wanted
            found = transaction.deliveries.page(narrowed, before, size + 1, sight)
            page = found[:size]
            last = (page[-1].created_ms, page[-1].uid) if len(found) > size else None
            return pb.ListDeliveriesResponse(
                deliveries=self._encode(transaction, receivers, page),
                next_page_token=encode_page_token(listing, last) if last else "",
            )

        return await self._reader.run(read, sight.joined(receivers.sight))

    async def RetryDelivery(self, request: pb.RetryDeliveryRequest, context: Context) -> pb.RetryDeliveryResponse:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        seen, changed = self._sight(Permission.DELIVERY_READ), self._sight(Permission.DELIVERY_RETRY)
        receivers = self._receivers()

        def retry(transaction: Transaction) -> pb.Delivery:
            delivery = find_delivery(transaction, request.id, seen)
            if not _within(delivery, changed):
                raise NotAllowed(permission=Permission.DELIVERY_RETRY)
            return self._encode(transaction, receivers, [outbox.retry(transaction, actor, delivery, now_ms)])[0]

        return pb.RetryDeliveryResponse(delivery=await self._committer.run(retry))

    def _sight(self, permission: Permission) -> Sight:
        return sight_of(self._visibility.owners(VIEWER.get(), permission))

    def _receivers(self) -> ReceiverRights:
        return receiver_rights(self._visibility, VIEWER.get())

    def _encode(
        self, transaction: Transaction, receivers: ReceiverRights, deliveries: Sequence[Delivery]
    ) -> list[pb.Delivery]:
        names = outbox.names_of_owners(transaction, {delivery.owner for delivery in deliveries})
        seen = names_of(transaction, receivers, {delivery.receiver_uid for delivery in deliveries})
        return [
            encode_delivery(
                # What a receiver is called and says is for who sees it; of one that was deleted nobody keeps anything.
                one
                if one.receiver_id is None or one.receiver_uid in seen
                else replace(one, receiver_name="", outcome=""),
                names.get(one.owner, ""),
                self._lifetime_ms,
            )
            for one in deliveries
        ]


def _within(delivery: Delivery, sight: Sight) -> bool:
    if sight.tenant_ids is None:
        return True
    owners = sight.tenant_ids | {MAIN_OWNER} if sight.main else sight.tenant_ids
    return delivery.concerns <= owners
