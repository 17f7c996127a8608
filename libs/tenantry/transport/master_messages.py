"""A link's messages from the Master on the wire: protobuf <-> `tenantry.protocol.messages`.

What cannot be read raises MessageUnreadable or FieldInvalid; nothing else leaves these functions.
"""

from __future__ import annotations

from functools import lru_cache

from tenantry.protocol.messages import (
    Ack,
    AuditHeadPush,
    ConfigurationPush,
    FromMaster,
    Goodbye,
    Nack,
    NackCause,
    RenewPush,
    Resume,
    ResumeMark,
    StatePush,
    Stream,
    TenantState,
    TrustBundlePush,
)
from tenantry.transport.tunnel_messages import decode_tunnel_push, encode_tunnel_push
from tenantry.transport.wire_values import (
    NACKS,
    STATES,
    STREAMS,
    decode_configuration,
    decode_goodbye,
    encode_configuration,
    encode_goodbye,
    from_duration,
    from_timestamp,
    to_duration,
    to_timestamp,
)
from tenantry.v1 import link_service_pb2 as link_pb


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
            return link_pb.ConnectResponse(goodbye=encode_goodbye(message))
        case _:
            return encode_tunnel_push(message)


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
            return decode_goodbye(response.goodbye)
        case _:
            return decode_tunnel_push(response)


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
