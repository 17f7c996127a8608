"""Streams, records and gaps on the wire, and the filters of requests back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

from google.protobuf.struct_pb2 import Struct

from tenantry.master.domain.records import JsonValue
from tenantry.master.operations.following import TailStep
from tenantry.master.operations.reading import ReadGap, ReadRecord, RecordFilter, StreamDescription, make_filter
from tenantry.master.operations.veiling import Veil
from tenantry.transport.wire_values import LOSSES, STREAMS, from_timestamp, to_duration, to_timestamp
from tenantry.v1 import stream_service_pb2 as pb

MAX_MESSAGE_BYTES = 3 << 20
"""Below the 4 MiB that clients of gRPC accept by default."""
_STEP_BYTES = 1 << 20


def decode_filter(message: pb.RecordFilter) -> RecordFilter:
    """The filter of a request. Raises StreamNotFound, FieldInvalid."""
    return make_filter(
        message.stream,
        message.tenant_guids,
        from_timestamp(message.start_time) if message.HasField("start_time") else None,
        from_timestamp(message.end_time) if message.HasField("end_time") else None,
        message.metrics,
    )


def encode_stream(stream: StreamDescription) -> pb.Stream:
    """A stream on the wire."""
    message = pb.Stream(
        name=stream.name.value, description=stream.description, records=stream.records, bytes=stream.bytes
    )
    if stream.retention_ms is not None:
        message.retention.CopyFrom(to_duration(stream.retention_ms))
    if stream.oldest_ms is not None:
        message.oldest.CopyFrom(to_timestamp(stream.oldest_ms))
    if stream.newest_ms is not None:
        message.newest.CopyFrom(to_timestamp(stream.newest_ms))
    if stream.forecast is not None:
        message.bytes_per_day = stream.forecast.bytes_per_day
        message.bytes_ahead = stream.forecast.bytes_ahead
    return message


def encode_record(record: ReadRecord, veil: Veil) -> pb.Record:
    """A record on the wire."""
    message = pb.Record(
        cursor=veil.cover_cursor(record.cursor),
        timestamp=to_timestamp(record.timestamp_ms),
        received_at=to_timestamp(record.received_ms),
    )
    if record.tenant is not None:
        message.tenant_guid = record.tenant.guid
        message.tenant_name = record.tenant.tenant_name
        message.instance_name = record.tenant.instance_name
    fill_struct(message.fields, record.fields)
    return message


def encode_steps(step: TailStep, veil: Veil) -> Iterator[pb.TailRecordsResponse]:
    """A step of a tail as one message, or as several where one would be too large."""
    records: list[pb.Record] = []
    size = 0
    for record in map(encode_record, step.records, repeat(veil)):
        more = record.ByteSize()
        if records and size + more > _STEP_BYTES:
            yield pb.TailRecordsResponse(records=records, cursor=records[-1].cursor)
            records, size = [], 0
        records.append(record)
        size += more
    # Fresh: the place behind a step moves with what others store too, and nobody is to see whether it has.
    yield pb.TailRecordsResponse(records=records, cursor=veil.cover_cursor(step.cursor, fresh=True))


def encode_page(page: Sequence[ReadRecord], next_page_token: str, veil: Veil) -> pb.ReadRecordsResponse:
    """A page of records on the wire."""
    records = map(encode_record, page, repeat(veil))
    return pb.ReadRecordsResponse(records=records, next_page_token=veil.cover_page_token(next_page_token))


def encode_gap(entry: ReadGap) -> pb.Gap:
    """An entry of the gap ledger on the wire."""
    gap, tenant = entry.gap, entry.tenant
    return pb.Gap(
        tenant_guid=tenant.guid,
        tenant_name=tenant.tenant_name,
        instance_name=tenant.instance_name,
        stream=STREAMS.number(gap.stream),
        epoch=gap.epoch.hex(),
        first_seq=gap.first_seq,
        last_seq=gap.last_seq,
        reason=LOSSES.number(gap.reason),
        detail=gap.detail,
        declared_at=to_timestamp(gap.declared_ms),
    )


def fill_struct(struct: Struct, fields: Mapping[str, JsonValue]) -> None:
    """Fields of a record as an object."""
    struct.update({name: _finite(value) for name, value in fields.items()})


def _finite(value: JsonValue) -> JsonValue:
    """Infinities by name, as JSON's mapping of protobuf writes them: a Struct's number must be finite."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
