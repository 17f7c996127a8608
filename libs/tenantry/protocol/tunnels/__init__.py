"""Tunnels: what both ends, and the Master between them, hold to. Pure: bytes, credits and times go in, and out comes what to do."""

from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState, end_of_number
from tenantry.protocol.tunnels.papers import (
    Grant,
    Ticket,
    UsedOnce,
    accept_grant,
    accept_ticket,
    decode_grant,
    decode_ticket,
    encode_grant,
    encode_ticket,
    tunnels_identity,
)
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.protocol.tunnels.targets import CONSOLE, Target, check_host, make_target, parse_target

__all__ = [
    "CONSOLE",
    "Grant",
    "Target",
    "Ticket",
    "TunnelEnd",
    "TunnelState",
    "UsedOnce",
    "accept_grant",
    "accept_ticket",
    "check_host",
    "decode_grant",
    "decode_ticket",
    "encode_grant",
    "encode_ticket",
    "end_of_number",
    "failure_of_end",
    "make_target",
    "parse_target",
    "tunnels_identity",
]
