"""`StreamService`: what the Master keeps, on the wire."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial, reduce

import structlog

from tenantry.master.domain.access import EVERYTHING, NOTHING, Permission, Sight
from tenantry.master.domain.records import StreamName
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.following import StreamHub, follow, open_tail
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import RecordFilter, list_gaps, list_streams, permission_of, read_records
from tenantry.master.operations.veiling import Veil
from tenantry.master.operations.visibility import Visibility
from tenantry.master.query.desk import QueryDesk
from tenantry.master.rpc.callers import VIEWER, Context
from tenantry.master.rpc.querying import QueryCalls
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.stream_messages import (
    MAX_MESSAGE_BYTES,
    decode_filter,
    encode_gap,
    encode_page,
    encode_steps,
    encode_stream,
)
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import NotAllowed
from tenantry.v1 import stream_service_pb2 as pb
from tenantry.v1 import stream_service_pb2_grpc

log = structlog.get_logger()


def _log_damage(kind: str, number: int, cause: str) -> None:
    log.error("stored metrics are damaged", kind=kind, number=number, cause=cause)


class StreamServicer(stream_service_pb2_grpc.StreamServiceServicer):
    """Wire <-> `operations.reading` and `operations.following`."""

    def __init__(
        self,
        database: Database,
        hub: StreamHub,
        visibility: Visibility,
        veil: Veil,
        retention_ms: Mapping[StreamName, int | None],
        clocks: Clocks,
        free_bytes: Callable[[], int | None],
        desk: QueryDesk,
        threads: int = 4,
    ) -> None:
        """``free_bytes``: what the store may still grow by, where that is known.

        Reads in ``threads`` of its own: long reads of streams never hold up the register.
        """
        self._reader = StoreReader(database, threads)
        self._hub = hub
        self._visibility = visibility
        self._veil = veil
        self._retention = retention_ms
        self._clocks = clocks
        self._free_bytes = free_bytes
        self._layouts = LayoutCache()
        self._queries = QueryCalls(desk, hub, visibility, veil, self._reader, self._layouts, clocks, _log_damage)

    def close(self) -> None:
        """Wait for reads under way, and end the threads."""
        self._reader.close()

    async def ListStreams(self, request: pb.ListStreamsRequest, context: Context) -> pb.ListStreamsResponse:
        sights = {
            name: self._visibility.sight(VIEWER.get(), permission_of(name))
            for name in StreamName
            if VIEWER.get().access.allows_anywhere(permission_of(name))
        }
        now_ms = self._clocks.wall_ms()
        streams = await self._reader.run(
            lambda transaction: list_streams(transaction, self._retention, sights, self._layouts, now_ms),
            reduce(Sight.joined, sights.values(), NOTHING),
        )
        answer = pb.ListStreamsResponse(streams=map(encode_stream, streams))
        free = self._free_bytes() if EVERYTHING in sights.values() else None
        if free is not None:
            answer.free_bytes = free
        return answer

    async def ReadRecords(self, request: pb.ReadRecordsRequest, context: Context) -> pb.ReadRecordsResponse:
        wanted = self._narrowed(decode_filter(request.filter))
        return await self._reader.run(lambda transaction: self._read_page(transaction, request, wanted), wanted.sight)

    async def TailRecords(
        self, request: pb.TailRecordsRequest, context: Context
    ) -> AsyncIterator[pb.TailRecordsResponse]:
        wanted = self._narrowed(decode_filter(request.filter))
        tail = open_tail(
            wanted, self._veil.uncover_cursor(request.after_cursor), request.backlog, self._layouts, _log_damage
        )
        run = partial(self._reader.run, sight=wanted.sight)
        async with aclosing(follow(self._hub, wanted.stream, tail, run)) as steps:
            async for step in steps:
                for message in encode_steps(step, self._veil):
                    yield message

    async def ListGaps(self, request: pb.ListGapsRequest, context: Context) -> pb.ListGapsResponse:
        sight = self._visibility.sight(VIEWER.get(), Permission.STREAM_READ)
        after = self._veil.uncover_page_token(request.page_token)
        gaps, token = await self._reader.run(
            lambda transaction: list_gaps(transaction, request.tenant_guids, request.page_size, after, sight),
            sight,
        )
        return pb.ListGapsResponse(gaps=map(encode_gap, gaps), next_page_token=self._veil.cover_page_token(token))

    async def Query(self, request: pb.QueryRequest, context: Context) -> AsyncIterator[pb.QueryResponse]:
        async with aclosing(self._queries.query(request)) as steps:
            async for step in steps:
                yield step

    async def FollowQuery(
        self, request: pb.FollowQueryRequest, context: Context
    ) -> AsyncIterator[pb.FollowQueryResponse]:
        async with aclosing(self._queries.follow(request)) as steps:
            async for step in steps:
                yield step

    def _narrowed(self, wanted: RecordFilter) -> RecordFilter:
        """The filter within what the caller sees of its stream. Raises NotAllowed where that is nothing anywhere."""
        permission = permission_of(wanted.stream)
        if not VIEWER.get().access.allows_anywhere(permission):
            raise NotAllowed(permission=permission)
        return replace(wanted, sight=self._visibility.sight(VIEWER.get(), permission))

    def _read_page(
        self, transaction: Transaction, request: pb.ReadRecordsRequest, wanted: RecordFilter
    ) -> pb.ReadRecordsResponse:
        """A page, written in the reading thread because a large one takes long; shorter where it would be too large."""
        asked, after = request.page_size, self._veil.uncover_page_token(request.page_token)
        while True:
            page, token = read_records(transaction, wanted, asked, after, request.ascending, self._layouts, _log_damage)
            message = encode_page(page, token, self._veil)
            if message.ByteSize() <= MAX_MESSAGE_BYTES or len(page) == 1:
                return message
            asked = len(page) // 2
