import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import MessageToDict

from tenantry.master.domain.access import Access, Permission
from tenantry.master.domain.people import Token
from tenantry.master.domain.records import NewGap, NewRecord, StreamName
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.following import StreamHub
from tenantry.master.operations.places import write_position
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.veiling import Veil
from tenantry.master.operations.viewers import make_viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.limits import QueryLimits
from tenantry.master.rpc.callers import VIEWER
from tenantry.master.rpc.stream_service import StreamServicer
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import Failure
from tenantry.protocol.messages import LossReason, Stream
from tenantry.transport.settings import client_options
from tenantry.transport.statuses import failure_of, failure_to_status
from tenantry.v1 import link_service_pb2, stream_service_pb2_grpc
from tenantry.v1 import stream_service_pb2 as pb
from tests.master.operations.stored_metrics import NAN, commit, frame, guid_of, register_tenants
from tests.servers.stores import empty_store

DEADLINE_S = 60
EVERYTHING = Access(frozenset(Permission))
ADMINISTRATOR = make_viewer(Token("t", "", "t", 0), "administrator", EVERYTHING, {})
VEIL = Veil(bytes(32))
METRICS = frozenset({StreamName.METRICS_MASTER})


class FailuresAsStatuses(grpc.aio.ServerInterceptor):
    """What the Master's gate does with failures; whoever calls may do everything."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:

            async def answer(request: Any, context: Any) -> Any:
                VIEWER.set(ADMINISTRATOR)
                try:
                    return await handler.unary_unary(request, context)
                except Failure as failure:
                    await abort(context, failure)

            return grpc.unary_unary_rpc_method_handler(answer, **codecs)

        async def stream(request: Any, context: Any) -> None:
            VIEWER.set(ADMINISTRATOR)
            try:
                async for message in handler.unary_stream(request, context):
                    await context.write(message)
            except Failure as failure:
                await abort(context, failure)

        return grpc.unary_stream_rpc_method_handler(stream, **codecs)


async def abort(context: Any, failure: Failure) -> None:
    """End a call with the status of a failure."""
    status = failure_to_status(failure)
    await context.abort(status.code, status.details, status.trailing_metadata)


@dataclass(slots=True)
class Served:
    database: Database
    hub: StreamHub
    stub: "stream_service_pb2_grpc.StreamServiceAsyncStub"  # a type of the stubs alone


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """The service on loopback over a store with three Tenants."""
    with Database.open(empty_store(tmp_path)) as database:
        register_tenants(database)
        hub = StreamHub()
        visibility = Visibility(TenantRegister())
        retention = {StreamName.ALERTS: 86_400_000, StreamName.NETFLOW: None}
        desk = QueryDesk(f"sqlite:///{tmp_path / 'unused.db'}", tmp_path / "query", QueryLimits(), 1, 1)
        servicer = StreamServicer(database, hub, visibility, VEIL, retention, Clocks(), database.free_bytes, desk)
        server = grpc.aio.server(interceptors=[FailuresAsStatuses()])
        stream_service_pb2_grpc.add_StreamServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=client_options()) as channel:
            yield Served(database, hub, stream_service_pb2_grpc.StreamServiceStub(channel))
        hub.close()
        await server.stop(DEADLINE_S)
        servicer.close()


def append(database: Database, count: int, text: str = "") -> None:
    """Alerts of Tenant 1."""
    with database.write() as transaction:
        transaction.records.append(
            [NewRecord(StreamName.ALERTS, 1_500 + n, 2_000, 1, {"n": n, "message": text}) for n in range(count)]
        )


async def test_streams_are_listed(served: Served) -> None:
    """With their descriptions, what they hold, and a retention only where there is one."""
    append(served.database, 3)
    answer = await served.stub.ListStreams(pb.ListStreamsRequest())
    assert [one.name for one in answer.streams] == sorted(name.value for name in StreamName)
    alerts = next(one for one in answer.streams if one.name == "alerts")
    assert (alerts.records, alerts.retention.seconds, alerts.oldest.ToMilliseconds()) == (3, 86_400, 1_500)
    empty = next(one for one in answer.streams if one.name == "netflow")
    assert not empty.HasField("retention") and not empty.HasField("oldest") and empty.description


async def test_growth_is_told_with_what_the_disk_has_left(served: Served) -> None:
    """A stream that has grown for long says how much a day, and where that leads; an empty one says nothing."""
    append(served.database, 3, "x" * 100)
    answer = await served.stub.ListStreams(pb.ListStreamsRequest())
    alerts, empty = (next(one for one in answer.streams if one.name == name) for name in ("alerts", "netflow"))
    assert answer.free_bytes > 0
    assert alerts.HasField("bytes_per_day") and alerts.bytes_ahead == alerts.bytes, (
        "the oldest has reached the retention"
    )
    assert not empty.HasField("bytes_per_day") and not empty.HasField("bytes_ahead")


async def test_a_record_on_the_wire(served: Served) -> None:
    """Times, the Tenant's names, and the fields as a Struct; infinities are named, since a Struct cannot hold them."""
    commit(served.database, [frame(2, 2, 1_700_000_000_123, [(1_700_000_000_001, (1.5, NAN, math.inf))])])
    answer = await served.stub.ReadRecords(
        pb.ReadRecordsRequest(filter=pb.RecordFilter(stream="metricsMaster", tenant_guids=[guid_of(2)]), ascending=True)
    )
    first, second = (MessageToDict(one, preserving_proto_field_name=True) for one in answer.records)
    assert first.pop("cursor") != second.pop("cursor")
    assert first == {
        "timestamp": "2023-11-14T22:13:20.001Z",
        "received_at": "2023-11-14T22:13:20.123Z",
        "tenant_guid": guid_of(2),
        "tenant_name": "tenant 2",
        "instance_name": "one",
        "fields": {
            "metric": "system.memory.usage",
            "unit": "By",
            "kind": "gauge",
            "value": 1.5,
            "labels": {"state": "free"},
        },
    }
    assert second["fields"]["value"] == "Infinity"


async def test_pages_of_large_records_stay_below_the_limit_of_a_message(served: Served) -> None:
    """A page that would be too large is shorter, and nothing is missing."""
    append(served.database, 600, "x" * 16_000)
    request = pb.ReadRecordsRequest(filter=pb.RecordFilter(stream="alerts"), page_size=10_000, ascending=True)
    found: list[object] = []
    while True:
        answer = await served.stub.ReadRecords(request)
        found += [one.fields["n"] for one in answer.records]
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert found == [*range(600)]


async def test_steps_of_large_records_are_divided(served: Served) -> None:
    """Each message has the cursor of its own last record."""
    append(served.database, 300, "x" * 16_000)
    call = served.stub.TailRecords(pb.TailRecordsRequest(filter=pb.RecordFilter(stream="alerts"), backlog=300))
    found: list[pb.Record] = []
    while len(found) < 300:
        message = await asyncio.wait_for(call.read(), DEADLINE_S)
        assert isinstance(message, pb.TailRecordsResponse)
        assert VEIL.uncover_cursor(message.cursor) == VEIL.uncover_cursor(message.records[-1].cursor)
        found += message.records
    call.cancel()
    assert [one.fields["n"] for one in found] == [*range(300)]


async def test_a_tail_follows_until_the_master_stops(served: Served) -> None:
    """An empty first step, then what comes; at the end UNAVAILABLE with the reason MASTER_STOPPING."""
    call = served.stub.TailRecords(pb.TailRecordsRequest(filter=pb.RecordFilter(stream="metricsMaster")))
    first = await asyncio.wait_for(call.read(), DEADLINE_S)
    assert isinstance(first, pb.TailRecordsResponse) and not first.records and first.cursor
    commit(served.database, [frame(1, 1, 5_000, [(1, (0.5,))])])
    served.hub.notify(METRICS)
    step = await asyncio.wait_for(call.read(), DEADLINE_S)
    assert isinstance(step, pb.TailRecordsResponse) and [one.fields["value"] for one in step.records] == [0.5]
    served.hub.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call.read(), DEADLINE_S)
    failure = failure_of(caught.value)
    assert failure is not None and (failure.reason, failure.code) == ("MASTER_STOPPING", "UNAVAILABLE")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ReadRecordsRequest(), "STREAM_NOT_FOUND"),
        (pb.ReadRecordsRequest(filter=pb.RecordFilter(stream="alerts"), page_size=-1), "FIELD_INVALID"),
        (pb.ReadRecordsRequest(filter=pb.RecordFilter(stream="alerts"), page_token="x"), "PAGE_TOKEN_INVALID"),
        (pb.ReadRecordsRequest(filter=pb.RecordFilter(stream="alerts", tenant_guids=["'; --"])), "FIELD_INVALID"),
        (pb.TailRecordsRequest(filter=pb.RecordFilter(stream="\x00")), "STREAM_NOT_FOUND"),
        (pb.TailRecordsRequest(filter=pb.RecordFilter(stream="alerts"), backlog=-1), "FIELD_INVALID"),
        (pb.TailRecordsRequest(filter=pb.RecordFilter(stream="alerts"), after_cursor="x"), "FIELD_INVALID"),
        (pb.ListGapsRequest(page_size=-5), "FIELD_INVALID"),
        (pb.ListGapsRequest(tenant_guids=["x"]), "FIELD_INVALID"),
    ],
)
async def test_a_wrong_request_gets_its_reason(served: Served, request_: Any, reason: str) -> None:
    """By type, so that clients need not read messages."""
    method = type(request_).__name__.removesuffix("Request")
    call = getattr(served.stub, method)(request_)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if method == "TailRecords" else call)
    failure = failure_of(caught.value)
    assert failure is not None and failure.reason == reason


async def test_a_gap_on_the_wire(served: Served) -> None:
    """Which sequence numbers of which epoch are missing, and why."""
    with served.database.write() as transaction:
        gap = NewGap(3, Stream.METRICS, bytes(range(16)), 5, 9, LossReason.SPOOL_FULL, "full", 1_500)
        transaction.gaps.append([gap])
    answer = await served.stub.ListGaps(pb.ListGapsRequest(tenant_guids=[guid_of(3)]))
    (found,) = answer.gaps
    assert (found.tenant_guid, found.stream, found.reason) == (
        guid_of(3),
        link_service_pb2.TENANT_STREAM_METRICS,
        link_service_pb2.LOSS_REASON_SPOOL_FULL,
    )
    assert (found.epoch, found.first_seq, found.last_seq) == ("000102030405060708090a0b0c0d0e0f", 5, 9)
    assert found.declared_at.ToMilliseconds() == 1_500 and not answer.next_page_token


async def test_what_a_caller_hands_back_says_nothing_and_is_worth_nothing_made_up(served: Served) -> None:
    """Pages and tails go on where they were; neither the number of a row nor a cursor of it as it is kept is taken."""
    append(served.database, 5)
    wanted = pb.RecordFilter(stream="alerts")
    page = await served.stub.ReadRecords(pb.ReadRecordsRequest(filter=wanted, page_size=2, ascending=True))
    rest = await served.stub.ReadRecords(
        pb.ReadRecordsRequest(filter=wanted, ascending=True, page_token=page.next_page_token)
    )
    assert [one.fields["n"] for one in (*page.records, *rest.records)] == [0, 1, 2, 3, 4]
    places = {write_position(n) for n in range(100)}
    assert not places.intersection(one.cursor for one in (*page.records, *rest.records))
    tail = served.stub.TailRecords(pb.TailRecordsRequest(filter=wanted, after_cursor=page.records[-1].cursor))
    first = await tail.read()
    assert isinstance(first, pb.TailRecordsResponse)
    assert [one.fields["n"] for one in first.records] == [2, 3, 4]
    tail.cancel()
    ends = set()
    for _ in range(3):
        tail = served.stub.TailRecords(pb.TailRecordsRequest(filter=wanted, after_cursor=first.cursor))
        step = await tail.read()
        assert isinstance(step, pb.TailRecordsResponse) and not step.records
        ends.add(step.cursor)
        tail.cancel()
    assert len(ends) == 3, "whether the place behind a tail has moved by what others store cannot be seen"
    for made_up in (write_position(1), page.next_page_token):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.TailRecords(pb.TailRecordsRequest(filter=wanted, after_cursor=made_up)).read()
        failure = failure_of(caught.value)
        assert failure is not None and failure.reason == "FIELD_INVALID"
