"""What papers say of themselves, without their proof: to answer about them, and for nothing else."""

from __future__ import annotations

import base64

from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.tunnels.papers import Grant, Ticket, decode_grant, decode_ticket


def claimed_grant(token: str) -> Grant | None:
    """None for what is no grant."""
    try:
        return decode_grant(_payload(token))
    except TunnelTicketRefused:
        return None


def claimed_ticket(token: str) -> Ticket | None:
    """None for what is no ticket."""
    try:
        return decode_ticket(_payload(token))
    except TunnelTicketRefused:
        return None


def _payload(token: str) -> bytes:
    try:
        text = token.split(".")[1]
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, IndexError):
        return b""
