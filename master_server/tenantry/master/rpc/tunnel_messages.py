"""Tunnels between the wire and the domain."""

from collections.abc import Iterable

from tenantry.master.domain.tunnels import Tunnel
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.tunnels.targets import MAX_TARGETS, Target, make_target
from tenantry.transport.wire_values import TUNNEL_ENDS, TUNNEL_STATES, to_duration, to_timestamp
from tenantry.v1 import tunnel_pb2 as pb


def decode_targets(targets: Iterable[pb.TunnelTarget]) -> list[Target]:
    """Targets in the one spelling that every program compares. Raises FieldInvalid."""
    found = list(targets)
    if len(found) > MAX_TARGETS:
        raise FieldInvalid(field="targets", problem=f"has {len(found)} entries", expected=f"at most {MAX_TARGETS}")
    return [make_target(target.host, target.port, "targets") for target in found]


def encode_tunnel(tunnel: Tunnel, guid: str, open_connections: int) -> pb.Tunnel:
    """A tunnel at the Tenant with this GUID."""
    ends_ms = tunnel.until_ms if tunnel.ended_ms is None else tunnel.ended_ms
    message = pb.Tunnel(
        id=tunnel.id,
        tenant=guid,
        operator=tunnel.operator,
        targets=[pb.TunnelTarget(host=target.host, port=target.port) for target in tunnel.targets],
        reason=tunnel.reason,
        state=TUNNEL_STATES.number(tunnel.state),
        create_time=to_timestamp(tunnel.created_ms),
        end_time=to_timestamp(ends_ms),
        end=pb.TUNNEL_END_UNSPECIFIED if tunnel.end is None else TUNNEL_ENDS.number(tunnel.end),
        end_detail=tunnel.end_detail,
        connections=tunnel.totals.connections,
        open_connections=open_connections,
        bytes_up=tunnel.totals.bytes_up,
        bytes_down=tunnel.totals.bytes_down,
        address=tunnel.address,
        idle_limit=to_duration(tunnel.idle_ms),
    )
    if tunnel.opened_ms is not None:
        message.open_time.CopyFrom(to_timestamp(tunnel.opened_ms))
    return message
