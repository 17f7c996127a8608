"""`ReceiverService`: receivers and their owners on the wire."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from tenantry.master.delivering.sending import render_all
from tenantry.master.delivering.templates import RenderFailed
from tenantry.master.domain.access import Permission, Sight, sight_of
from tenantry.master.domain.deliveries import example
from tenantry.master.domain.privacy import Deed
from tenantry.master.domain.receivers import Receiver, ReceiverDraft, ReceiverStatus, check_draft
from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import receiving
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.outbox import read_content
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.receiver_rights import ReceiverRights, check_may_subscribe, receiver_rights
from tenantry.master.operations.receiver_trials import TrialDesk
from tenantry.master.operations.roles import find_owner
from tenantry.master.operations.sealing import Seal
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.delivery_service import find_delivery
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.receiver_messages import (
    decode_draft,
    decode_receiver_filter,
    decode_settings,
    encode_receiver,
)
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import TemplateInvalid
from tenantry.v1 import receiver_service_pb2 as pb
from tenantry.v1 import receiver_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000

_NOTHING_SENT = ReceiverStatus()
_UNNAMED = "example"


class ReceiverServicer(receiver_service_pb2_grpc.ReceiverServiceServicer):
    """Wire <-> `operations.receiving`, `operations.receiver_rights` and `operations.receiver_trials`."""

    def __init__(
        self,
        committer: Committer,
        reader: StoreReader,
        visibility: Visibility,
        trials: TrialDesk,
        seal: Seal,
        clocks: Clocks,
    ) -> None:
        self._committer = committer
        self._reader = reader
        self._visibility = visibility
        self._trials = trials
        self._seal = seal
        self._clocks = clocks

    async def CreateReceiver(self, request: pb.CreateReceiverRequest, context: Context) -> pb.CreateReceiverResponse:
        actor, uid, now_ms = ACTOR.get(), str(uuid.uuid4()), self._clocks.wall_ms()
        draft, secrets = decode_draft(request.receiver, VIEWER.get().user_id), dict(request.secrets)
        rights = self._rights()

        def create(transaction: Transaction) -> Receiver:
            owner = find_owner(transaction, request.receiver.owner)
            check_may_subscribe(rights.viewer, owner, draft.subscription)
            return receiving.create_receiver(
                transaction, actor, draft, secrets, self._seal, owner=owner, uid=uid, now_ms=now_ms
            )

        return pb.CreateReceiverResponse(receiver=await self._change(create))

    async def GetReceiver(self, request: pb.GetReceiverRequest, context: Context) -> pb.GetReceiverResponse:
        rights, told = self._rights(), self._told()

        def read(transaction: Transaction) -> pb.Receiver:
            return _encode(transaction, rights, [rights.find(transaction, request.id)], told)[0]

        return pb.GetReceiverResponse(receiver=await self._reader.run(read, rights.sight.joined(told)))

    async def ListReceivers(self, request: pb.ListReceiversRequest, context: Context) -> pb.ListReceiversResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        wanted = decode_receiver_filter(request.filter)
        listing = request.filter.SerializeToString(deterministic=True)
        place = decode_page_token(listing, request.page_token)
        after = (str(place[0]), str(place[1])) if place else None
        owner, rights, told = request.filter.owner, self._rights(), self._told()
        if owner:
            self._visibility.require_at(VIEWER.get(), Permission.RECEIVER_READ, owner)

        def read(transaction: Transaction) -> pb.ListReceiversResponse:
            narrowed = replace(wanted, owner=find_owner(transaction, owner)) if owner else wanted
            seen = (rights.sight, rights.hidden(transaction))
            found = transaction.receivers.page(narrowed, after, size + 1, *seen)
            page = found[:size]
            last = (page[-1].name, page[-1].uid) if len(found) > size else None
            return pb.ListReceiversResponse(
                receivers=_encode(transaction, rights, page, told),
                next_page_token=encode_page_token(listing, last) if last else "",
                total_size=transaction.receivers.count(narrowed, *seen),
            )

        return await self._reader.run(read, rights.sight.joined(told))

    async def UpdateReceiver(self, request: pb.UpdateReceiverRequest, context: Context) -> pb.UpdateReceiverResponse:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()
        paths, secrets = tuple(request.update_mask.paths), dict(request.secrets)
        draft = decode_draft(request.receiver, rights.viewer.user_id, whole="settings" in paths)
        uid, etag = request.receiver.id, request.receiver.etag

        def update(transaction: Transaction) -> Receiver:
            receiver = rights.require(transaction, uid, Deed.EDIT)
            check_may_subscribe(rights.viewer, receiver.owner, receiver.draft.subscription)
            changed = receiving.update_receiver(
                transaction, actor, receiver, etag, draft, paths, secrets, self._seal, now_ms
            )
            check_may_subscribe(rights.viewer, changed.owner, changed.draft.subscription)
            return changed

        return pb.UpdateReceiverResponse(receiver=await self._change(update))

    async def DeleteReceiver(self, request: pb.DeleteReceiverRequest, context: Context) -> pb.DeleteReceiverResponse:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()

        def delete(transaction: Transaction) -> None:
            receiver = rights.require(transaction, request.id, Deed.DELETE)
            receiving.delete_receiver(transaction, actor, receiver, request.etag, now_ms)

        await self._committer.run(delete)
        return pb.DeleteReceiverResponse()

    async def TestReceiver(self, request: pb.TestReceiverRequest, context: Context) -> pb.TestReceiverResponse:
        actor, rights = ACTOR.get(), self._rights()
        receiver = await self._reader.run(
            lambda transaction: rights.require(transaction, request.id, Deed.EDIT), rights.sight
        )
        trial = await self._trials.try_out(receiver)
        attempt, now_ms = trial.attempt, self._clocks.wall_ms()
        await self._committer.run(
            lambda transaction: receiving.note_test(
                transaction, actor, receiver, attempt.detail, now_ms, delivered=attempt.taken
            )
        )
        return pb.TestReceiverResponse(delivered=attempt.taken, outcome=attempt.detail, key=trial.key)

    async def PreviewReceiver(self, request: pb.PreviewReceiverRequest, context: Context) -> pb.PreviewReceiverResponse:
        name = request.receiver.name or _UNNAMED
        settings = decode_settings(request.receiver)
        sight = self._told()

        def read(transaction: Transaction) -> dict[str, str]:
            # Checked as if it were kept: what cannot be kept is not shown either.
            checked = check_draft(ReceiverDraft(name, settings)).settings
            receiving.check_settings(checked)
            content: dict[str, JsonValue] = example(self._clocks.wall_ms(), name).content()
            if request.delivery:
                content = read_content(find_delivery(transaction, request.delivery, sight))
            try:
                return render_all(checked, content)
            except RenderFailed as error:
                raise TemplateInvalid(template="receiver", line=1, problem=str(error)) from None

        texts = await self._reader.run(read, sight)
        return pb.PreviewReceiverResponse(texts=[pb.RenderedText(name=one, text=text) for one, text in texts.items()])

    def _rights(self) -> ReceiverRights:
        return receiver_rights(self._visibility, VIEWER.get())

    def _told(self) -> Sight:
        """The owners whose deliveries the caller sees."""
        return sight_of(self._visibility.owners(VIEWER.get(), Permission.DELIVERY_READ))

    async def _change(self, change: Callable[[Transaction], Receiver]) -> pb.Receiver:
        rights, told = self._rights(), self._told()
        return await self._committer.run(
            lambda transaction: _encode(transaction, rights, [change(transaction)], told)[0]
        )


def _encode(
    transaction: Transaction, rights: ReceiverRights, receivers: Sequence[Receiver], told: Sight
) -> list[pb.Receiver]:
    statuses = receiving.statuses(transaction, rights, receivers, told)
    tenants = transaction.tenants.standings_of({receiver.owner for receiver in receivers})
    return [
        encode_receiver(receiver, statuses.get(receiver.id, _NOTHING_SENT), tenants.get(receiver.owner))
        for receiver in receivers
    ]
