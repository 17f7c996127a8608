"""Queries of callers: what they may ask of which stream, and their answers step by step."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from tenantry.master.domain.access import Sight
from tenantry.master.domain.records import stream_named
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.following import StreamHub, follow, open_tail
from tenantry.master.operations.metric_ticks import DamageObserver, LayoutCache
from tenantry.master.operations.reading import permission_of
from tenantry.master.operations.veiling import Veil
from tenantry.master.operations.visibility import Visibility
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.exchange import Message, Order
from tenantry.master.query.following import check_followable, followed, keep
from tenantry.master.query.limits import MAX_FOLLOWED_ROWS, MAX_TEXT
from tenantry.master.rpc.callers import VIEWER
from tenantry.master.rpc.query_messages import AnswerEncoder, decode_limit
from tenantry.master.rpc.reading import StoreReader
from tenantry.nql.parsing import parse
from tenantry.nql.tree import Query
from tenantry.protocol.failures import FieldInvalid, NotAllowed
from tenantry.transport.wire_values import from_duration
from tenantry.v1 import stream_service_pb2 as pb


class QueryCalls:
    """Wire <-> `QueryDesk`."""

    def __init__(
        self,
        desk: QueryDesk,
        hub: StreamHub,
        visibility: Visibility,
        veil: Veil,
        reader: StoreReader,
        layouts: LayoutCache,
        clocks: Clocks,
        on_damage: DamageObserver,
    ) -> None:
        """``reader`` is for what is followed; queries read in processes of their own."""
        self._desk = desk
        self._hub = hub
        self._visibility = visibility
        self._veil = veil
        self._reader = reader
        self._layouts = layouts
        self._clocks = clocks
        self._on_damage = on_damage

    async def query(self, request: pb.QueryRequest) -> AsyncGenerator[pb.QueryResponse, None]:
        """The steps of an answer."""
        begun, rows = self._clocks.steady_ms(), decode_limit(request.limit)
        _, order = await self._order(request.query, request.time_zone)
        limits = order.limits
        if request.HasField("timeout"):
            limits = replace(limits, timeout_ms=max(1, min(limits.timeout_ms, from_duration(request.timeout))))
        order = replace(order, rows=rows, limits=limits, explain=request.explain)
        encoder = AnswerEncoder()
        async with aclosing(self._desk.run(order, VIEWER.get().user_id)) as messages:
            async for message in messages:
                yield encoder.step(message, self._clocks.steady_ms() - begun)

    async def follow(self, request: pb.FollowQueryRequest) -> AsyncGenerator[pb.FollowQueryResponse, None]:
        """What a query keeps of what comes."""
        query, order = await self._order(request.query, request.time_zone)
        check_followable(query)
        order = replace(order, rows=MAX_FOLLOWED_ROWS)
        wanted = followed(query, order.sight)
        cursor = self._veil.uncover_cursor(request.after_cursor)
        tail = open_tail(wanted, cursor, request.backlog, self._layouts, self._on_damage)
        run = partial(self._reader.run, sight=order.sight)
        encoder, first = AnswerEncoder(), True
        async with aclosing(follow(self._hub, wanted.stream, tail, run)) as steps:
            async for step in steps:
                messages = await keep(self._desk, order, step.records)
                for answer in _steps(messages, encoder, with_begin=first):
                    yield answer
                first = False
                # Fresh: the place behind a step moves with what others store too, and nobody is to see whether it has.
                yield pb.FollowQueryResponse(cursor=self._veil.cover_cursor(step.cursor, fresh=True))

    async def _order(self, text: str, time_zone: str) -> tuple[Query, Order]:
        """A query within what its caller sees of its stream.

        Raises QueryInvalid, FieldInvalid, StreamNotFound, and NotAllowed where the caller sees nothing of it anywhere.
        """
        if not text.strip():
            raise FieldInvalid(field="query", problem="is empty", expected='a query, such as: src stream="alerts"')
        if len(text) > MAX_TEXT:
            raise FieldInvalid(
                field="query", problem=f"has {len(text)} characters", expected=f"at most {MAX_TEXT} of them"
            )
        now_ms, zone = self._clocks.wall_ms(), time_zone or "UTC"
        query = await asyncio.to_thread(parse, text, now_ms=now_ms, time_zone=zone)
        limits = self._desk.limits
        return query, Order(text, now_ms, zone, self._sight(query), rows=0, limits=limits)

    def _sight(self, query: Query) -> Sight:
        viewer, permission = VIEWER.get(), permission_of(stream_named(query.source.stream))
        if not viewer.access.allows_anywhere(permission):
            raise NotAllowed(permission=permission)
        return self._visibility.sight(viewer, permission)


def _steps(messages: list[Message], encoder: AnswerEncoder, *, with_begin: bool) -> list[pb.FollowQueryResponse]:
    answers = []
    for message in messages:
        if "result" in message:
            begin = encoder.begin(message)
            if with_begin:
                answers.append(pb.FollowQueryResponse(begin=begin))
        elif "rows" in message:
            answers.append(pb.FollowQueryResponse(rows=encoder.rows(message)))
    return answers
