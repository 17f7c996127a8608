"""`WindowService`: maintenance windows on the wire."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, Permission, Sight
from tenantry.master.domain.tenants import TenantStanding
from tenantry.master.domain.windows import Window, WindowDraft, WindowFilter, span_after, span_at
from tenantry.master.operations import windowing
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.roles import find_owner
from tenantry.master.operations.visibility import Visibility
from tenantry.master.operations.windowing import WindowRights, window_rights
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.window_messages import decode_draft, decode_filter, encode_occurrence, encode_window
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid
from tenantry.transport.wire_values import from_timestamp
from tenantry.v1 import window_service_pb2 as pb
from tenantry.v1 import window_service_pb2_grpc

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1_000
MOST_OCCURRENCES: Final = 1_000
DEFAULT_STRETCH_MS: Final = 7 * 86_400_000
LONGEST_STRETCH_MS: Final = 366 * 86_400_000
LOOKED_AHEAD_MS: Final = 366 * 86_400_000


class WindowServicer(window_service_pb2_grpc.WindowServiceServicer):
    """Wire <-> `operations.windowing`."""

    def __init__(self, committer: Committer, reader: StoreReader, visibility: Visibility, clocks: Clocks) -> None:
        self._committer = committer
        self._reader = reader
        self._visibility = visibility
        self._clocks = clocks

    async def CreateWindow(self, request: pb.CreateWindowRequest, context: Context) -> pb.CreateWindowResponse:
        actor, uid, now_ms, draft = ACTOR.get(), str(uuid.uuid4()), self._clocks.wall_ms(), _draft(request.window)
        seen = self._tenants_seen()

        def create(transaction: Transaction) -> Window:
            owner = find_owner(transaction, request.window.owner)
            wanted = _scoped(transaction, draft, request.window, seen)
            return windowing.create_window(transaction, actor, wanted, owner=owner, uid=uid, now_ms=now_ms)

        return pb.CreateWindowResponse(window=await self._change(create, seen))

    async def GetWindow(self, request: pb.GetWindowRequest, context: Context) -> pb.GetWindowResponse:
        rights, seen, now_ms = self._rights(), self._tenants_seen(), self._clocks.wall_ms()

        def read(transaction: Transaction) -> pb.Window:
            return _encode(transaction, [rights.find(transaction, request.id)], seen, now_ms)[0]

        return pb.GetWindowResponse(window=await self._reader.run(read, rights.sight.joined(seen)))

    async def ListWindows(self, request: pb.ListWindowsRequest, context: Context) -> pb.ListWindowsResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        wanted, listing = self._allowed(request.filter), request.filter.SerializeToString(deterministic=True)
        place = decode_page_token(listing, request.page_token)
        after = (str(place[0]), str(place[1])) if place else None
        rights, seen, now_ms = self._rights(), self._tenants_seen(), self._clocks.wall_ms()

        def read(transaction: Transaction) -> pb.ListWindowsResponse:
            narrowed = _narrowed(transaction, wanted, request.filter)
            found = transaction.windows.page(narrowed, after, size + 1, rights.sight)
            page = found[:size]
            last = (page[-1].name, page[-1].uid) if len(found) > size else None
            return pb.ListWindowsResponse(
                windows=_encode(transaction, page, seen, now_ms),
                next_page_token=encode_page_token(listing, last) if last else "",
                total_size=transaction.windows.count(narrowed, rights.sight),
            )

        return await self._reader.run(read, rights.sight.joined(seen))

    async def UpdateWindow(self, request: pb.UpdateWindowRequest, context: Context) -> pb.UpdateWindowResponse:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()
        asked, paths, seen = request.window, tuple(request.update_mask.paths), self._tenants_seen()
        draft = _draft(asked, paths)

        def update(transaction: Transaction) -> Window:
            window = rights.require(transaction, asked.id)
            wanted = draft
            if "scope" in paths:
                # Tenants that the caller does not see were not shown, and stay.
                hidden = frozenset() if seen.tenant_ids is None else window.draft.scope.tenant_ids - seen.tenant_ids
                wanted = _scoped(transaction, draft, asked, seen)
                scope = replace(wanted.scope, tenant_ids=wanted.scope.tenant_ids | hidden)
                wanted = replace(wanted, scope=scope)
            return windowing.update_window(transaction, actor, window, asked.etag, wanted, paths, now_ms)

        return pb.UpdateWindowResponse(window=await self._change(update, seen))

    async def DeleteWindow(self, request: pb.DeleteWindowRequest, context: Context) -> pb.DeleteWindowResponse:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()

        def delete(transaction: Transaction) -> None:
            window = rights.require(transaction, request.id)
            windowing.delete_window(transaction, actor, window, request.etag, now_ms)

        await self._committer.run(delete)
        return pb.DeleteWindowResponse()

    async def ListOccurrences(self, request: pb.ListOccurrencesRequest, context: Context) -> pb.ListOccurrencesResponse:
        start_ms = from_timestamp(request.start_time) if request.HasField("start_time") else self._clocks.wall_ms()
        end_ms = from_timestamp(request.end_time) if request.HasField("end_time") else start_ms + DEFAULT_STRETCH_MS
        if not 0 < end_ms - start_ms <= LONGEST_STRETCH_MS:
            raise FieldInvalid(
                field="end_time", problem="is not within a year after the begin", expected="1 to 366 days"
            )
        wanted, rights = self._allowed(request.filter), self._rights()

        def read(transaction: Transaction) -> pb.ListOccurrencesResponse:
            narrowed = replace(_narrowed(transaction, wanted, request.filter), active=True)
            windows: list[Window] = []
            after: tuple[str, str] | None = None
            while page := transaction.windows.page(narrowed, after, LARGEST_PAGE, rights.sight):
                windows += page
                after = page[-1].name, page[-1].uid
            found = windowing.occurrences(windows, start_ms, end_ms, MOST_OCCURRENCES + 1)
            tenants = transaction.tenants.standings_of({window.owner for window, _ in found})
            return pb.ListOccurrencesResponse(
                occurrences=[encode_occurrence(window, span, tenants) for window, span in found[:MOST_OCCURRENCES]],
                truncated=len(found) > MOST_OCCURRENCES,
            )

        return await self._reader.run(read, rights.sight)

    def _rights(self) -> WindowRights:
        return window_rights(self._visibility, VIEWER.get())

    def _tenants_seen(self) -> Sight:
        return self._visibility.sight(VIEWER.get(), Permission.TENANT_READ)

    def _allowed(self, wanted: pb.WindowFilter) -> WindowFilter:
        found = decode_filter(wanted)
        if wanted.owner:
            self._visibility.require_at(VIEWER.get(), Permission.WINDOW_READ, wanted.owner)
        return found

    async def _change(self, change: Callable[[Transaction], Window], seen: Sight) -> pb.Window:
        now_ms = self._clocks.wall_ms()
        return await self._committer.run(
            lambda transaction: _encode(transaction, [change(transaction)], seen, now_ms)[0]
        )


def _draft(window: pb.Window, paths: Sequence[str] | None = None) -> WindowDraft:
    if window.WhichOneof("schedule") is None and (paths is None or not {"recurrence", "once"}.isdisjoint(paths)):
        raise FieldInvalid(field="schedule", problem="is missing", expected="recurrence, or once")
    return decode_draft(window)


def _narrowed(transaction: Transaction, wanted: WindowFilter, asked: pb.WindowFilter) -> WindowFilter:
    return replace(wanted, owner=find_owner(transaction, asked.owner)) if asked.owner else wanted


def _scoped(transaction: Transaction, draft: WindowDraft, asked: pb.Window, seen: Sight) -> WindowDraft:
    tenant_ids = windowing.find_scope(transaction, asked.scope.tenant_guids, seen)
    return replace(draft, scope=replace(draft.scope, tenant_ids=tenant_ids))


def _encode(transaction: Transaction, windows: Sequence[Window], seen: Sight, now_ms: int) -> list[pb.Window]:
    owners = {window.owner for window in windows if window.owner > MAIN_OWNER}
    named = {number for window in windows for number in window.draft.scope.tenant_ids}
    shown = named if seen.tenant_ids is None else named & seen.tenant_ids
    tenants: dict[int, TenantStanding] = transaction.tenants.standings_of(owners | shown)
    messages = []
    for window in windows:
        schedule, active = window.draft.schedule, window.draft.active
        present = span_at(schedule, now_ms) if active else None
        following = span_after(schedule, now_ms) if active else None
        if following is not None and following.start_ms >= now_ms + LOOKED_AHEAD_MS:
            following = None
        visible = {number: tenant for number, tenant in tenants.items() if number in shown or number == window.owner}
        messages.append(encode_window(window, visible, present, following))
    return messages
