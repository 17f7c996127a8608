"""A link's messages from the daemon on the wire: protobuf <-> `tenantry.protocol.messages`.

What cannot be read raises MessageUnreadable or FieldInvalid; nothing else leaves these functions.
"""

from __future__ import annotations

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout
from tenantry.protocol.messages import (
    Batch,
    Begin,
    ConfigurationReport,
    EpochLoss,
    FromDaemon,
    Goodbye,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Loss,
    LossReason,
    StateReport,
    Stream,
    StreamMark,
    TenantState,
    TrustReport,
)
from tenantry.transport.tunnel_messages import decode_tunnel_news, encode_tunnel_news
from tenantry.transport.wire_values import (
    KINDS,
    LOSSES,
    STATES,
    STREAMS,
    decode_goodbye,
    decode_spool,
    encode_goodbye,
    encode_spool,
    from_timestamp,
    to_timestamp,
)
from tenantry.v1 import link_service_pb2 as link_pb


def encode_from_daemon(message: FromDaemon) -> link_pb.ConnectRequest:
    """A daemon's message on the wire."""
    match message:
        case Batch():
            batch = link_pb.Batch(
                stream=STREAMS.number(message.stream),
                first_seq=message.first_seq,
                records=message.records,
                chain=message.chain,
                spool=encode_spool(message.spool) if message.spool is not None else None,
            )
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
            return link_pb.ConnectRequest(goodbye=encode_goodbye(message))
        case _:
            return encode_tunnel_news(message)


def decode_from_daemon(request: link_pb.ConnectRequest) -> FromDaemon:
    """A daemon's message. Raises MessageUnreadable for an empty or unknown one, FieldInvalid for a wrong field."""
    if request.HasField("batch"):  # nearly every message is one
        batch = request.batch
        spool = decode_spool(batch.spool) if batch.HasField("spool") else None
        return Batch(STREAMS.member(batch.stream, Stream), batch.first_seq, tuple(batch.records), batch.chain, spool)
    match request.WhichOneof("message"):
        case "heartbeat":
            heartbeat = request.heartbeat
            return Heartbeat(decode_spool(heartbeat.spool) if heartbeat.HasField("spool") else None)
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
            return decode_goodbye(request.goodbye)
        case _:
            return decode_tunnel_news(request)


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
        takes_tunnels=hello.takes_tunnels,
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
        takes_tunnels=hello.takes_tunnels,
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
