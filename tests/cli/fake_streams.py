# ruff: noqa: ARG002, N802 - the names and parameters are those of the generated servicers
"""The fake Master's streams: the service, and what its filters mean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from tenantry.protocol.failures import MasterStopping, StreamNotFound
from tenantry.v1 import stream_service_pb2 as stream_pb
from tenantry.v1 import stream_service_pb2_grpc as stream_grpc

if TYPE_CHECKING:
    from tests.cli.fake_master import FakeMaster


class Streams(stream_grpc.StreamServiceServicer):
    """What the contract says, on lists of records."""

    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    def _records(self, wanted: stream_pb.RecordFilter) -> list[stream_pb.Record]:
        if wanted.stream not in self._master.records:
            raise StreamNotFound(stream=wanted.stream)
        return [record for record in self._master.records[wanted.stream] if _record_matches(record, wanted)]

    async def ListStreams(self, request: Any, context: Any) -> Any:
        return stream_pb.ListStreamsResponse(
            streams=[
                stream_pb.Stream(name=name, description=f"what is in {name}", records=len(records))
                for name, records in sorted(self._master.records.items())
            ]
        )

    async def ReadRecords(self, request: stream_pb.ReadRecordsRequest, context: Any) -> Any:
        found = self._records(request.filter)
        if not request.ascending:
            found.reverse()
        start = int(request.page_token or 0)
        end = start + min(request.page_size or 100, self._master.largest_page)
        token = str(end) if end < len(found) else ""
        return stream_pb.ReadRecordsResponse(records=found[start:end], next_page_token=token)

    async def TailRecords(self, request: stream_pb.TailRecordsRequest, context: Any) -> AsyncIterator[Any]:
        found = self._records(request.filter)
        position = len(found) - request.backlog
        if request.after_cursor:
            position = [record.cursor for record in found].index(request.after_cursor) + 1
        first = True
        while not self._master.stopping.is_set():
            fresh = self._records(request.filter)[position:]
            position += len(fresh)
            if fresh or first:
                yield stream_pb.TailRecordsResponse(records=fresh, cursor=fresh[-1].cursor if fresh else "")
            first = False
            await self._master.changed(0.2)
        raise MasterStopping

    async def Query(self, request: stream_pb.QueryRequest, context: Any) -> AsyncIterator[Any]:
        for step in self._master.answer:
            yield step

    async def FollowQuery(self, request: stream_pb.FollowQueryRequest, context: Any) -> AsyncIterator[Any]:
        """Each time the rows of the answer behind the cursor, which is a number."""
        begin = next(step.begin for step in self._master.answer if step.HasField("begin"))
        yield stream_pb.FollowQueryResponse(begin=begin)
        rows = [step.rows for step in self._master.answer if step.HasField("rows")]
        for place in range(int(request.after_cursor or 0), len(rows)):
            yield stream_pb.FollowQueryResponse(rows=rows[place], cursor=str(place + 1))
            raise MasterStopping
        await self._master.changed(60.0)

    async def ListGaps(self, request: stream_pb.ListGapsRequest, context: Any) -> Any:
        wanted = set(request.tenant_guids)
        return stream_pb.ListGapsResponse(
            gaps=[gap for gap in self._master.gaps if not wanted or gap.tenant_guid in wanted]
        )


def _record_matches(record: stream_pb.Record, wanted: stream_pb.RecordFilter) -> bool:
    at = record.timestamp.ToMilliseconds()
    return (
        (not wanted.tenant_guids or record.tenant_guid in wanted.tenant_guids)
        and (not wanted.metrics or record.fields["metric"] in wanted.metrics)
        and (not wanted.HasField("start_time") or at >= wanted.start_time.ToMilliseconds())
        and (not wanted.HasField("end_time") or at < wanted.end_time.ToMilliseconds())
    )
