"""What a link says about tunnels, on the wire: protobuf <-> `tenantry.protocol.messages`.

What cannot be read raises MessageUnreadable or FieldInvalid; nothing else leaves these functions.
"""

from __future__ import annotations

from tenantry.protocol.failures import MessageUnreadable
from tenantry.protocol.messages import TunnelClose, TunnelDial, TunnelOffer, TunnelReport, TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.transport.wire_values import TUNNEL_ENDS, TUNNEL_STATES, from_timestamp, to_timestamp
from tenantry.v1 import link_service_pb2 as link_pb
from tenantry.v1 import tunnel_pb2


def encode_tunnel_news(message: TunnelReport | TunnelsHeld) -> link_pb.ConnectRequest:
    """What a daemon says about tunnels."""
    match message:
        case TunnelReport():
            return link_pb.ConnectRequest(tunnel_report=_encode_report(message))
        case TunnelsHeld():
            return link_pb.ConnectRequest(tunnels_held=link_pb.TunnelsHeld(tunnel_ids=message.tunnel_ids))


def decode_tunnel_news(request: link_pb.ConnectRequest) -> TunnelReport | TunnelsHeld:
    """What a daemon says about tunnels. Raises MessageUnreadable for whatever is nothing of the kind, FieldInvalid."""
    match request.WhichOneof("message"):
        case "tunnel_report":
            return _decode_report(request.tunnel_report)
        case "tunnels_held":
            return TunnelsHeld(tuple(request.tunnels_held.tunnel_ids))
        case _:
            raise MessageUnreadable(problem="a ConnectRequest without one of the known messages")


def encode_tunnel_push(message: TunnelOffer | TunnelDial | TunnelClose | TunnelsHeld) -> link_pb.ConnectResponse:
    """What a Master says about tunnels."""
    match message:
        case TunnelOffer():
            offer = link_pb.TunnelOffer(grant=message.grant, relay_port=message.relay_port)
            return link_pb.ConnectResponse(tunnel_offer=offer)
        case TunnelDial():
            return link_pb.ConnectResponse(tunnel_dial=link_pb.TunnelDial(ticket=message.ticket))
        case TunnelClose():
            close = link_pb.TunnelClose(
                tunnel_id=message.tunnel_id, end=TUNNEL_ENDS.number(message.end), detail=message.detail
            )
            return link_pb.ConnectResponse(tunnel_close=close)
        case TunnelsHeld():
            return link_pb.ConnectResponse(tunnels_held=link_pb.TunnelsHeld(tunnel_ids=message.tunnel_ids))


def decode_tunnel_push(response: link_pb.ConnectResponse) -> TunnelOffer | TunnelDial | TunnelClose | TunnelsHeld:
    """What a Master says about tunnels. Raises MessageUnreadable for whatever is nothing of the kind, FieldInvalid."""
    match response.WhichOneof("message"):
        case "tunnel_offer":
            return TunnelOffer(response.tunnel_offer.grant, response.tunnel_offer.relay_port)
        case "tunnel_dial":
            return TunnelDial(response.tunnel_dial.ticket)
        case "tunnel_close":
            close = response.tunnel_close
            return TunnelClose(close.tunnel_id, TUNNEL_ENDS.member(close.end, TunnelEnd), close.detail)
        case "tunnels_held":
            return TunnelsHeld(tuple(response.tunnels_held.tunnel_ids))
        case _:
            raise MessageUnreadable(problem="a ConnectResponse without one of the known messages")


def _encode_report(report: TunnelReport) -> link_pb.TunnelReport:
    message = link_pb.TunnelReport(
        tunnel_id=report.tunnel_id,
        nonce=report.nonce,
        state=TUNNEL_STATES.number(report.state),
        end=TUNNEL_ENDS.number(report.end) if report.end is not None else tunnel_pb2.TUNNEL_END_UNSPECIFIED,
        detail=report.detail,
        console_path=report.console_path,
    )
    if report.until_ms is not None:
        message.until.CopyFrom(to_timestamp(report.until_ms))
    return message


def _decode_report(report: link_pb.TunnelReport) -> TunnelReport:
    return TunnelReport(
        tunnel_id=report.tunnel_id,
        state=TUNNEL_STATES.member(report.state, TunnelState),
        nonce=report.nonce,
        end=TUNNEL_ENDS.member(report.end, TunnelEnd) if report.end else None,
        detail=report.detail,
        until_ms=from_timestamp(report.until) if report.HasField("until") else None,
        console_path=report.console_path,
    )
