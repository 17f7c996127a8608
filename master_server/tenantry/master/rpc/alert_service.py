"""`AlertService`: alerts on the wire."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from tenantry.master.domain.access import MAIN_OWNER, Permission
from tenantry.master.domain.alerts import Alert, AlertEvent, AlertFilter
from tenantry.master.operations import alert_work
from tenantry.master.operations.alert_following import AlertStep, AlertTail
from tenantry.master.operations.alert_rights import AlertRights, alert_rights
from tenantry.master.operations.alert_work import Deed
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.following import ALERT_CHANGES, StreamHub
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.places import read_revision, write_revision
from tenantry.master.operations.roles import find_owner
from tenantry.master.operations.veiling import Veil
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.alert_messages import (
    decode_classification,
    decode_filter,
    decode_order,
    encode_alert,
    encode_change,
    encode_copy,
    tenants_of,
)
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.alerts import page_key
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import TenantNotFound
from tenantry.v1 import alert_service_pb2 as pb
from tenantry.v1 import alert_service_pb2_grpc

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1_000
PACE_S: Final = 0.2
"""Least time between two steps of a watch: an alert that changes many times meanwhile is sent once."""

MAX_CHANGES_BYTES: Final = 1 << 20

Work = Callable[[Transaction, Alert, Deed], Alert]


class AlertServicer(alert_service_pb2_grpc.AlertServiceServicer):
    """Wire <-> `operations.alert_work`, `operations.alert_rights` and `operations.alert_following`."""

    def __init__(
        self,
        committer: Committer,
        reader: StoreReader,
        visibility: Visibility,
        hub: StreamHub,
        veil: Veil,
        clocks: Clocks,
    ) -> None:
        self._committer = committer
        self._reader = reader
        self._visibility = visibility
        self._hub = hub
        self._veil = veil
        self._clocks = clocks

    async def GetAlert(self, request: pb.GetAlertRequest, context: Context) -> pb.GetAlertResponse:
        rights = self._rights()

        def read(transaction: Transaction) -> pb.GetAlertResponse:
            alert = rights.find(transaction, request.id)
            return pb.GetAlertResponse(
                alert=_encode(transaction, [alert])[0],
                changes=newest_changes(map(encode_change, transaction.alerts.changes_of(alert))),
                copies=map(encode_copy, transaction.alerts.copies_of(alert)),
            )

        return await self._reader.run(read, rights.sight)

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: Context) -> pb.ListAlertsResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        order, rights = decode_order(request.order), self._rights()
        wanted = self._allowed(request.filter)
        listing = (request.filter.SerializeToString(deterministic=True), order.value)
        after = decode_page_token(listing, request.page_token)

        def read(transaction: Transaction) -> pb.ListAlertsResponse:
            narrowed = _narrowed(transaction, wanted, request.filter)
            found = transaction.alerts.page(narrowed, order, after, size + 1, rights.sight)
            page = found[:size]
            return pb.ListAlertsResponse(
                alerts=_encode(transaction, page),
                next_page_token=encode_page_token(listing, page_key(page[-1], order)) if len(found) > size else "",
                total_size=transaction.alerts.count(narrowed, rights.sight),
            )

        return await self._reader.run(read, rights.sight)

    async def AcknowledgeAlert(
        self, request: pb.AcknowledgeAlertRequest, context: Context
    ) -> pb.AcknowledgeAlertResponse:
        return pb.AcknowledgeAlertResponse(alert=await self._step(request, AlertEvent.ACKNOWLEDGED))

    async def AssignAlert(self, request: pb.AssignAlertRequest, context: Context) -> pb.AssignAlertResponse:
        def assign(transaction: Transaction, alert: Alert, deed: Deed) -> Alert:
            return alert_work.assign(transaction, alert, deed, request.assignee)

        return pb.AssignAlertResponse(alert=await self._work(request, assign))

    async def StartAlert(self, request: pb.StartAlertRequest, context: Context) -> pb.StartAlertResponse:
        return pb.StartAlertResponse(alert=await self._step(request, AlertEvent.STARTED))

    async def PendAlert(self, request: pb.PendAlertRequest, context: Context) -> pb.PendAlertResponse:
        return pb.PendAlertResponse(alert=await self._step(request, AlertEvent.PENDED))

    async def ResolveAlert(self, request: pb.ResolveAlertRequest, context: Context) -> pb.ResolveAlertResponse:
        named = request.classification != pb.ALERT_CLASSIFICATION_UNSPECIFIED
        classification = decode_classification(request.classification) if named else None

        def resolve(transaction: Transaction, alert: Alert, deed: Deed) -> Alert:
            return alert_work.resolve(transaction, alert, deed, classification)

        return pb.ResolveAlertResponse(alert=await self._work(request, resolve))

    async def ReopenAlert(self, request: pb.ReopenAlertRequest, context: Context) -> pb.ReopenAlertResponse:
        return pb.ReopenAlertResponse(alert=await self._step(request, AlertEvent.REOPENED))

    async def ClassifyAlert(self, request: pb.ClassifyAlertRequest, context: Context) -> pb.ClassifyAlertResponse:
        classification = decode_classification(request.classification)

        def classify(transaction: Transaction, alert: Alert, deed: Deed) -> Alert:
            return alert_work.classify(transaction, alert, deed, classification)

        return pb.ClassifyAlertResponse(alert=await self._work(request, classify))

    async def CommentAlert(self, request: pb.CommentAlertRequest, context: Context) -> pb.CommentAlertResponse:
        return pb.CommentAlertResponse(alert=await self._work(request, alert_work.comment))

    async def CloseAlert(self, request: pb.CloseAlertRequest, context: Context) -> pb.CloseAlertResponse:
        return pb.CloseAlertResponse(alert=await self._work(request, alert_work.close))

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        rights, wanted = self._rights(), self._allowed(request.filter)
        cursor = self._veil.uncover_cursor(request.after_cursor)
        after = read_revision(cursor) if cursor else None
        wanted = await self._reader.run(
            lambda transaction: _narrowed(transaction, wanted, request.filter), rights.sight
        )
        tail, synchronised = AlertTail(wanted, rights.sight, after), False

        def read(transaction: Transaction) -> tuple[AlertStep, list[pb.Alert]]:
            step = tail.advance(transaction)
            return step, _encode(transaction, [alert for alert, _ in step.alerts])

        with self._hub.watch(ALERT_CHANGES) as changed:
            while True:
                self._hub.check_open()
                # Before the look into the store: what is committed from now on is seen by it, or wakes us up again.
                changed.clear()
                step, messages = await self._reader.run(read, rights.sight)
                for (alert, matches), message in zip(step.alerts, messages, strict=True):
                    place = self._cursor(alert.revision)
                    if matches:
                        yield pb.WatchAlertsResponse(alert=message, cursor=place)
                    else:
                        yield pb.WatchAlertsResponse(gone=alert.uid, cursor=place)
                if step.more:
                    continue
                if not synchronised:
                    synchronised = True
                    yield pb.WatchAlertsResponse(synchronised=True, cursor=self._cursor(step.revision))
                await asyncio.sleep(PACE_S)
                await changed.wait()

    def _cursor(self, revision: int) -> str:
        return self._veil.cover_cursor(write_revision(revision), fresh=True)

    def _rights(self) -> AlertRights:
        return alert_rights(self._visibility, VIEWER.get())

    def _allowed(self, wanted: pb.AlertFilter) -> AlertFilter:
        """The filter, whose owner and Tenants the caller may ask for. Raises as `Visibility.require` does, and FieldInvalid."""
        found, viewer = decode_filter(wanted), VIEWER.get()
        for guid in wanted.tenant_guids:
            self._visibility.require(viewer, Permission.ALERT_READ, guid)
        if wanted.owner:
            self._visibility.require_at(viewer, Permission.ALERT_READ, wanted.owner)
        return found

    async def _step(self, request: Any, event: AlertEvent) -> pb.Alert:
        return await self._work(
            request, lambda transaction, alert, deed: alert_work.step(transaction, alert, deed, event)
        )

    async def _work(self, request: Any, work: Work) -> pb.Alert:
        rights, viewer = self._rights(), VIEWER.get()
        everybody = viewer.access.allows(Permission.USER_READ, MAIN_OWNER)
        deed = Deed(ACTOR.get(), viewer.user_name, self._clocks.wall_ms(), request.etag, request.comment, everybody)

        def change(transaction: Transaction) -> pb.Alert:
            alert = rights.require(transaction, request.id)
            return _encode(transaction, [work(transaction, alert, deed)])[0]

        return await self._committer.run(change)


def _narrowed(transaction: Transaction, wanted: AlertFilter, asked: pb.AlertFilter) -> AlertFilter:
    """The filter with the store's numbers of what it names. Raises TenantNotFound."""
    found = transaction.tenants.standings(list(asked.tenant_guids)) if asked.tenant_guids else {}
    for guid in asked.tenant_guids:
        if guid not in found:
            raise TenantNotFound(tenant=guid)
    return replace(
        wanted,
        owner=find_owner(transaction, asked.owner) if asked.owner else None,
        tenant_ids=frozenset(one.id for one in found.values()) if asked.tenant_guids else None,
    )


def _encode(transaction: Transaction, alerts: Sequence[Alert]) -> list[pb.Alert]:
    tenants = transaction.tenants.standings_of(tenants_of(alerts))
    return [encode_alert(alert, tenants) for alert in alerts]


def newest_changes(changes: Iterable[pb.AlertChange]) -> list[pb.AlertChange]:
    """As many of the newest as fit into an answer, whoever wrote how much."""
    kept, size = list(changes), 0
    for place in range(len(kept) - 1, -1, -1):
        size += kept[place].ByteSize()
        if size > MAX_CHANGES_BYTES:
            return kept[place + 1 :]
    return kept
