"""The link's messages on the wire: protobuf <-> `tenantry.protocol.messages`.

What cannot be read raises MessageUnreadable or FieldInvalid; nothing else leaves these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tenantry.protocol.failures import FieldInvalid, MessageUnreadable
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout
from tenantry.protocol.messages import (
    Ack,
    AuditHeadPush,
    Batch,
    Begin,
    Configuration,
    ConfigurationPush,
    ConfigurationReport,
    EpochLoss,
    FromDaemon,
    FromMaster,
    Goodbye,
    GoodbyeReason,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Loss,
    LossReason,
    Nack,
    NackCause,
    RenewPush,
    Resume,
    ResumeMark,
    SpoolStatus,
    StatePush,
    StateReport,
    Stream,
    StreamMark,
    TenantState,
    TrustBundlePush,
    TrustReport,
)
from tenantry.v1 import link_service_pb2 as link_pb
from tenantry.v1 import tenant_pb2

_E = TypeVar("_E", bound=Enum)

MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999, where google.protobuf.Timestamp ends


class WireEnum:
    """One of our enums and its protobuf twin, whose value names are ``PREFIX_NAME``."""

    __slots__ = ("_field", "_from_number", "_to_number")

    def __init__(self, members: type[Enum], number_of: Callable[[str], int], prefix: str) -> None:
        self._field = prefix.lower()
        self._to_number = {member: number_of(f"{prefix}_{member.name}") for member in members}
        self._from_number = {number: member for member, number in self._to_number.items()}

    def number(self, member: Enum) -> Any:
        """The number on the wire; Any, because the stubs give each protobuf enum a NewType of its own."""
        return self._to_number[member]

    def member(self, number: int, kind: type[_E]) -> _E:
        """The member of a number. Raises FieldInvalid for one that we do not know."""
        member = self._from_number.get(number)
        if not isinstance(member, kind):
            raise FieldInvalid(field=self._field, problem=f"has the value {number}", expected="one of the named values")
        return member


STREAMS = WireEnum(Stream, link_pb.TenantStream.Value, "TENANT_STREAM")
STATES = WireEnum(TenantState, tenant_pb2.TenantState.Value, "TENANT_STATE")
GOODBYES = WireEnum(GoodbyeReason, tenant_pb2.GoodbyeReason.Value, "GOODBYE_REASON")
LOSSES = WireEnum(LossReason, link_pb.LossReason.Value, "LOSS_REASON")
NACKS = WireEnum(NackCause, link_pb.Nack.Cause.Value, "CAUSE")
KINDS = WireEnum(SeriesKind, link_pb.SeriesKind.Value, "SERIES_KIND")


def to_timestamp(milliseconds: int) -> Timestamp:
    """Unix milliseconds as a Timestamp."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def from_timestamp(timestamp: Timestamp) -> int:
    """A Timestamp as Unix milliseconds, rounded down. Raises FieldInvalid outside the years 1970 to 9999."""
    milliseconds = timestamp.seconds * 1000 + timestamp.nanos // 1_000_000
    if not 0 <= milliseconds <= MAX_TIMESTAMP_MS or not 0 <= timestamp.nanos < 1_000_000_000:
        raise FieldInvalid(field="timestamp", problem="is out of range", expected="a time from 1970 to 9999")
    return milliseconds


def to_duration(milliseconds: int) -> Duration:
    """Milliseconds as a Duration."""
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration


def from_duration(duration: Duration) -> int:
    """A Duration as milliseconds, rounded towards zero."""
    return duration.seconds * 1000 + int(duration.nanos / 1_000_000)


def encode_spool(status: SpoolStatus) -> tenant_pb2.SpoolStatus:
    """A spool's status on the wire."""
    message = tenant_pb2.SpoolStatus(
        unacknowledged_records=status.unacknowledged_records, bytes=status.bytes, capacity_bytes=status.capacity_bytes
    )
    if status.oldest_unacknowledged_ms is not None:
        message.oldest_unacknowledged.CopyFrom(to_timestamp(status.oldest_unacknowledged_ms))
    return message


def _decode_spool(message: tenant_pb2.SpoolStatus) -> SpoolStatus:
    oldest = from_timestamp(message.oldest_unacknowledged) if message.HasField("oldest_unacknowledged") else None
    return SpoolStatus(message.unacknowledged_records, message.bytes, message.capacity_bytes, oldest)


def encode_configuration(configuration: Configuration) -> tenant_pb2.TenantConfiguration:
    """A configuration on the wire."""
    message = tenant_pb2.TenantConfiguration(
        version=configuration.version,
        heartbeat_interval=to_duration(configuration.heartbeat_interval_ms),
        disabled_probes=configuration.disabled_probes,
    )
    for name, interval in configuration.probe_intervals_ms.items():
        message.probe_intervals[name].CopyFrom(to_duration(interval))
    return message


def decode_configuration(message: tenant_pb2.TenantConfiguration) -> Configuration:
    """A configuration from the wire; an absent heartbeat interval is the default."""
    heartbeat = (
        {"heartbeat_interval_ms": from_duration(message.heartbeat_interval)}
        if message.HasField("heartbeat_interval")
        else {}
    )
    return Configuration(
        version=message.version,
        probe_intervals_ms={name: from_duration(interval) for name, interval in message.probe_intervals.items()},
        disabled_probes=tuple(message.disabled_probes),
        **heartbeat,
    )


def _encode_layout(layout: Layout) -> link_pb.Layout:
    return link_pb.Layout(
        id=layout.id,
        series=[
            link_pb.Series(
                name=one.name,
                unit=one.unit,
                kind=KINDS.number(one.kind),
                labels=[link_pb.Label(name=name, value=value) for name, value in one.labels],
            )
            for one in layout.series
        ],
    )


def _decode_layout(message: link_pb.Layout) -> Layout:
    layout = make_layout(
        [
            Series(
                one.name,
                one.unit,
                KINDS.member(one.kind, SeriesKind),
                tuple((label.name, label.value) for label in one.labels),
            )
            for one in message.series
        ]
    )
    if layout.id != message.id:
        raise FieldInvalid(field="layout.id", problem="is not the layout's content hash", expected=layout.id.hex())
    return layout


def _encode_goodbye(goodbye: Goodbye) -> link_pb.Goodbye:
    message = link_pb.Goodbye(
        reason=GOODBYES.number(goodbye.reason),
        note=goodbye.note,
    )
    if goodbye.until_ms is not None:
        message.until.CopyFrom(to_timestamp(goodbye.until_ms))
    if goodbye.retry_after_ms is not None:
        message.retry_after.CopyFrom(to_duration(goodbye.retry_after_ms))
    return message


def _decode_goodbye(message: link_pb.Goodbye) -> Goodbye:
    return Goodbye(
        GOODBYES.member(message.reason or tenant_pb2.GOODBYE_REASON_STOP, GoodbyeReason),
        message.note,
        from_timestamp(message.until) if message.HasField("until") else None,
        from_duration(message.retry_after) if message.HasField("retry_after") else None,
    )


# --- daemon -> Master -----------------------------------------------------------------------------------------------------


def encode_from_daemon(message: FromDaemon) -> link_pb.ConnectRequest:
    """A daemon's message on the wire."""
    match message:
        case Batch():
            batch = link_pb.Batch(
                stream=STREAMS.number(message.stream),
                first_seq=message.first_seq,
                records=message.records,
                chain=message.chain,
            )
            if message.spool is not None:
                batch.spool.CopyFrom(encode_spool(message.spool))
            return link_pb.ConnectRequest(batch=batch)
        case Heartbeat():
            spool = encode_spool(message.spool) if message.spool is not None else None
            return link_pb.ConnectRequest(heartbeat=link_pb.Heartbeat(spool=spool))
        case Hello():
            return link_pb.ConnectRequest(hello=_encode_hello(message))
        case Begin():
            return link_pb.ConnectRequest(begin=link_pb.Begin(incarnation=message.incarnation))
        case LayoutRegistration():
            layouts = [_encode_layout(layout) for layout in message.layouts]
            return link_pb.ConnectRequest(layouts=link_pb.LayoutRegistration(layouts=layouts))
        case Loss():
            return link_pb.ConnectRequest(
                loss=link_pb.Loss(
                    stream=STREAMS.number(message.stream),
                    first_seq=message.first_seq,
                    last_seq=message.last_seq,
                    reason=LOSSES.number(message.reason),
                    detail=message.detail,
                    chain=message.chain,
                )
            )
        case ConfigurationReport():
            report = link_pb.ConfigurationReport(version=message.version, failure=message.failure)
            return link_pb.ConnectRequest(configuration_report=report)
        case TrustReport():
            return link_pb.ConnectRequest(trust_report=link_pb.TrustReport(bundle_hash=message.bundle_hash))
        case StateReport():
            return link_pb.ConnectRequest(state_report=link_pb.StateReport(state=STATES.number(message.state)))
        case Goodbye():
            return link_pb.ConnectRequest(goodbye=_encode_goodbye(message))


def decode_from_daemon(request: link_pb.ConnectRequest) -> FromDaemon:
    """A daemon's message. Raises MessageUnreadable for an empty or unknown one, FieldInvalid for a wrong field."""
    if request.HasField("batch"):  # nearly every message is one
        batch = request.batch
        spool = _decode_spool(batch.spool) if batch.HasField("spool") else None
        return Batch(STREAMS.member(batch.stream, Stream), batch.first_seq, tuple(batch.records), batch.chain, spool)
    match request.WhichOneof("message"):
        case "heartbeat":
            heartbeat = request.heartbeat
            return Heartbeat(_decode_spool(heartbeat.spool) if heartbeat.HasField("spool") else None)
        case "hello":
            return _decode_hello(request.hello)
        case "begin":
            return Begin(request.begin.incarnation)
        case "layouts":
            return LayoutRegistration(tuple(_decode_layout(layout) for layout in request.layouts.layouts))
        case "loss":
            loss = request.loss
            return Loss(
                STREAMS.member(loss.stream, Stream),
                loss.first_seq,
                loss.last_seq,
                LOSSES.member(loss.reason, LossReason),
                loss.detail,
                loss.chain,
            )
        case "configuration_report":
            report = request.configuration_report
            return ConfigurationReport(report.version, report.failure)
        case "trust_report":
            return TrustReport(request.trust_report.bundle_hash)
        case "state_report":
            return StateReport(STATES.member(request.state_report.state, TenantState))
        case "goodbye":
            return _decode_goodbye(request.goodbye)
        case _:
            raise MessageUnreadable(problem="a ConnectRequest without one of the known messages")


def _encode_hello(hello: Hello) -> link_pb.Hello:
    return link_pb.Hello(
        protocol_version=hello.protocol_version,
        guid=hello.guid,
        incarnation=hello.incarnation,
        epoch=hello.epoch,
        marks=[
            link_pb.StreamMark(
                stream=STREAMS.number(mark.stream),
                oldest_seq=mark.oldest_seq,
                next_seq=mark.next_seq,
                acknowledged_seq=mark.acknowledged_seq,
                acknowledged_chain=mark.acknowledged_chain,
            )
            for mark in hello.marks
        ],
        layout_ids=hello.layout_ids,
        clock=to_timestamp(hello.clock_ms),
        software_version=hello.software_version,
        host_name=hello.host_name,
        trust_bundle_hash=hello.trust_bundle_hash,
        configuration_version=hello.configuration_version,
        lost_epochs=[
            link_pb.EpochLoss(
                stream=STREAMS.number(lost.stream),
                epoch=lost.epoch,
                reason=LOSSES.number(lost.reason),
                detail=lost.detail,
            )
            for lost in hello.lost_epochs
        ],
        witnesses_audit=hello.witnesses_audit,
        audit_head=hello.audit_head,
    )


def _decode_hello(hello: link_pb.Hello) -> Hello:
    return Hello(
        guid=hello.guid,
        incarnation=hello.incarnation,
        epoch=hello.epoch,
        marks=tuple(
            StreamMark(
                STREAMS.member(mark.stream, Stream),
                mark.oldest_seq,
                mark.next_seq,
                mark.acknowledged_seq,
                mark.acknowledged_chain or bytes(32),
            )
            for mark in hello.marks
        ),
        clock_ms=from_timestamp(hello.clock),
        layout_ids=tuple(hello.layout_ids),
        software_version=hello.software_version,
        host_name=hello.host_name,
        trust_bundle_hash=hello.trust_bundle_hash,
        configuration_version=hello.configuration_version,
        lost_epochs=tuple(
            EpochLoss(
                STREAMS.member(lost.stream, Stream), lost.epoch, LOSSES.member(lost.reason, LossReason), lost.detail
            )
            for lost in hello.lost_epochs
        ),
        protocol_version=hello.protocol_version,
        witnesses_audit=hello.witnesses_audit,
        audit_head=hello.audit_head,
    )


# --- Master -> daemon -----------------------------------------------------------------------------------------------------


def encode_from_master(message: FromMaster) -> link_pb.ConnectResponse:
    """A Master's message on the wire."""
    match message:
        case Ack():
            return link_pb.ConnectResponse(
                ack=link_pb.Ack(
                    stream=STREAMS.number(message.stream),
                    last_seq=message.last_seq,
                    credits=message.credits,
                )
            )
        case Nack():
            return link_pb.ConnectResponse(
                nack=link_pb.Nack(
                    stream=STREAMS.number(message.stream),
                    cause=NACKS.number(message.cause),
                    expected_seq=message.expected_seq,
                    credits=message.credits,
                    detail=message.detail,
                    retry_after=to_duration(message.retry_after_ms),
                )
            )
        case Resume():
            return link_pb.ConnectResponse(resume=_encode_resume(message))
        case StatePush():
            return _encode_state_push(message)
        case ConfigurationPush():
            return link_pb.ConnectResponse(configuration=encode_configuration(message.configuration))
        case TrustBundlePush():
            return link_pb.ConnectResponse(trust_bundle=link_pb.TrustBundlePush(trust_bundle=message.trust_bundle))
        case RenewPush():
            return link_pb.ConnectResponse(renew=link_pb.RenewPush(reason=message.reason))
        case AuditHeadPush():
            return _encode_audit_head(message)
        case Goodbye():
            return link_pb.ConnectResponse(goodbye=_encode_goodbye(message))


@lru_cache(maxsize=2)
def _encode_audit_head(message: AuditHeadPush) -> link_pb.ConnectResponse:
    """Made once for all links."""
    return link_pb.ConnectResponse(audit_head=link_pb.AuditHead(token=message.token))


@lru_cache(maxsize=16)
def _encode_state_push(message: StatePush) -> link_pb.ConnectResponse:
    """Made once for all the links that are told the same."""
    return link_pb.ConnectResponse(state=link_pb.StatePush(state=STATES.number(message.state), reason=message.reason))


def decode_from_master(response: link_pb.ConnectResponse) -> FromMaster:
    """A Master's message. Raises MessageUnreadable for an empty or unknown one, FieldInvalid for a wrong field."""
    match response.WhichOneof("message"):
        case "ack":
            return Ack(STREAMS.member(response.ack.stream, Stream), response.ack.last_seq, response.ack.credits)
        case "nack":
            nack = response.nack
            return Nack(
                STREAMS.member(nack.stream, Stream),
                NACKS.member(nack.cause, NackCause),
                nack.expected_seq,
                nack.credits,
                nack.detail,
                from_duration(nack.retry_after),
            )
        case "resume":
            return _decode_resume(response.resume)
        case "state":
            return StatePush(STATES.member(response.state.state, TenantState), response.state.reason)
        case "configuration":
            return ConfigurationPush(decode_configuration(response.configuration))
        case "trust_bundle":
            return TrustBundlePush(response.trust_bundle.trust_bundle)
        case "renew":
            return RenewPush(response.renew.reason)
        case "audit_head":
            return AuditHeadPush(response.audit_head.token)
        case "goodbye":
            return _decode_goodbye(response.goodbye)
        case _:
            raise MessageUnreadable(problem="a ConnectResponse without one of the known messages")


def _encode_resume(resume: Resume) -> link_pb.Resume:
    return link_pb.Resume(
        incarnation=resume.incarnation,
        credits=resume.credits,
        marks=[
            link_pb.ResumeMark(
                stream=STREAMS.number(mark.stream),
                last_seq=mark.last_seq,
                chain=mark.chain,
            )
            for mark in resume.marks
        ],
        unknown_layout_ids=resume.unknown_layout_ids,
        server_time=to_timestamp(resume.server_time_ms),
        state=STATES.number(resume.state),
        configuration=encode_configuration(resume.configuration),
        max_batch_bytes=resume.max_batch_bytes,
    )


def _decode_resume(resume: link_pb.Resume) -> Resume:
    return Resume(
        incarnation=resume.incarnation,
        credits=resume.credits,
        marks=tuple(
            ResumeMark(STREAMS.member(mark.stream, Stream), mark.last_seq, mark.chain) for mark in resume.marks
        ),
        server_time_ms=from_timestamp(resume.server_time),
        state=STATES.member(resume.state, TenantState),
        configuration=decode_configuration(resume.configuration),
        unknown_layout_ids=tuple(resume.unknown_layout_ids),
        max_batch_bytes=resume.max_batch_bytes,
    )
