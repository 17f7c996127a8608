"""What the Master signs for a tunnel: the grant of the whole of it, and a ticket for each connection.

Here are their fields and what of them a daemon checks; `tenantry.transport.signed_tunnels` has the signature. Times are Unix
milliseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tenantry.protocol.failures import FieldInvalid, TunnelTicketRefused
from tenantry.protocol.names import MAX_REASON, check_guid, check_text, master_identity
from tenantry.protocol.tunnels.targets import MAX_TARGETS, Target, make_target

GRANT_TYPE: Final = "tenantry-tunnel-grant"
TICKET_TYPE: Final = "tenantry-tunnel-ticket"
NONCE_BYTES: Final = 16
LIFETIME_MS: Final = 30_000
"""For how long an offer, and a ticket, is good."""
LEEWAY_MS: Final = 10_000
"""How far the clocks of Master and Tenant may differ before a paper is too old or not yet good."""
MAX_USED: Final = 65_536
MAX_OPERATOR: Final = 200
MAX_ADDRESS: Final = 100
_MAX_PAYLOAD: Final = 16 * 1024
_TICKETS_KEPT: Final = 64
_NEWEST_MS: Final = 253_402_300_799_999  # the end of the year 9999
_NONCE = re.compile(r"[0-9a-f]{32}")
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Grant:
    """The leave for one tunnel. No ``targets``: wherever the Tenant's policy allows. ``idle_ms`` 0: no idle limit."""

    tunnel: str
    tenant: str
    operator: str
    address: str
    targets: tuple[Target, ...]
    reason: str
    issued_ms: int
    expires_ms: int
    until_ms: int
    idle_ms: int = 0

    def covers(self, target: Target) -> bool:
        """Whether a connection to ``target`` belongs to the tunnel."""
        return not self.targets or target in self.targets


@dataclass(frozen=True, slots=True)
class Ticket:
    """The leave for one connection. ``nonce`` is random and names the connection."""

    tunnel: str
    tenant: str
    operator: str
    target: Target
    nonce: bytes
    issued_ms: int
    expires_ms: int


def tunnels_identity(trust_domain: str) -> str:
    """The name in the certificate of the key that signs grants and tickets."""
    return f"{master_identity(trust_domain)}/tunnels"


def encode_grant(grant: Grant) -> bytes:
    """What is signed: canonical JSON."""
    return _encode(
        {
            "tunnel": grant.tunnel,
            "tenant": grant.tenant,
            "operator": grant.operator,
            "address": grant.address,
            "targets": [[target.host, target.port] for target in grant.targets],
            "reason": grant.reason,
            "issued_ms": grant.issued_ms,
            "expires_ms": grant.expires_ms,
            "until_ms": grant.until_ms,
            "idle_ms": grant.idle_ms,
        }
    ).encode()


def decode_grant(payload: bytes) -> Grant:
    """The inverse of `encode_grant`; nothing but its own output is taken. Raises TunnelTicketRefused."""
    try:
        content = _parse(payload)
        targets = content["targets"]
        if not isinstance(targets, list) or len(targets) > MAX_TARGETS:
            raise ValueError
        grant = Grant(
            tunnel=check_guid(_text(content, "tunnel", 36)),
            tenant=check_guid(_text(content, "tenant", 36)),
            operator=_text(content, "operator", MAX_OPERATOR),
            address=_text(content, "address", MAX_ADDRESS),
            targets=tuple(_target(one[0], one[1]) for one in targets),
            reason=_text(content, "reason", MAX_REASON),
            issued_ms=_time(content, "issued_ms"),
            expires_ms=_time(content, "expires_ms"),
            until_ms=_time(content, "until_ms"),
            idle_ms=_time(content, "idle_ms"),
        )
        if encode_grant(grant) != payload:
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, FieldInvalid):
        raise TunnelTicketRefused(cause="it is no grant of a tunnel") from None
    return grant


def encode_ticket(ticket: Ticket) -> bytes:
    """What is signed: canonical JSON."""
    return _encode(
        {
            "tunnel": ticket.tunnel,
            "tenant": ticket.tenant,
            "operator": ticket.operator,
            "host": ticket.target.host,
            "port": ticket.target.port,
            "nonce": ticket.nonce.hex(),
            "issued_ms": ticket.issued_ms,
            "expires_ms": ticket.expires_ms,
        }
    ).encode()


@lru_cache(maxsize=_TICKETS_KEPT)
def decode_ticket(payload: bytes) -> Ticket:
    """The inverse of `encode_ticket`; nothing but its own output is taken. Raises TunnelTicketRefused.

    A daemon reads each twice: as what it claims to be, and once it is proven. So some are remembered.
    """
    try:
        content = _parse(payload)
        nonce = content["nonce"]
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise ValueError
        ticket = Ticket(
            tunnel=check_guid(_text(content, "tunnel", 36)),
            tenant=check_guid(_text(content, "tenant", 36)),
            operator=_text(content, "operator", MAX_OPERATOR),
            target=_target(content["host"], content["port"]),
            nonce=bytes.fromhex(nonce),
            issued_ms=_time(content, "issued_ms"),
            expires_ms=_time(content, "expires_ms"),
        )
        if encode_ticket(ticket) != payload:
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError, FieldInvalid):
        raise TunnelTicketRefused(cause="it is no ticket of a connection") from None
    return ticket


class UsedOnce:
    """What was used already and would still be good: ids with the time until which they have to be kept."""

    def __init__(self, limit: int = MAX_USED) -> None:
        self._limit = limit
        self._until: dict[str, int] = {}

    def take(self, name: str, until_ms: int, now_ms: int) -> None:
        """Use ``name``, which is good until ``until_ms``. Raises TunnelTicketRefused when it was used, or when too many are kept."""
        if name in self._until:
            raise TunnelTicketRefused(cause="it was used before")
        if len(self._until) >= self._limit:
            self._until = {one: until for one, until in self._until.items() if until >= now_ms}
            if len(self._until) >= self._limit:
                raise TunnelTicketRefused(cause="too many were used in a short time")
        self._until[name] = until_ms

    def __len__(self) -> int:
        return len(self._until)


def accept_grant(grant: Grant, tenant: str, now_ms: int, used: UsedOnce) -> None:
    """Use a grant whose signature is proven. Raises TunnelTicketRefused unless it is for ``tenant``, good now, and new."""
    _check_place_and_time(grant, tenant, now_ms)
    if grant.until_ms <= now_ms:
        raise TunnelTicketRefused(cause="its tunnel would be over")
    used.take(f"grant:{grant.tunnel}", max(grant.expires_ms, grant.issued_ms) + LEEWAY_MS, now_ms)


def accept_ticket(ticket: Ticket, grant: Grant, tenant: str, now_ms: int, used: UsedOnce) -> None:
    """Use a ticket whose signature is proven, for a connection of the tunnel of ``grant``.

    Raises TunnelTicketRefused unless it is for ``tenant``, that tunnel, its operator and one of its targets, good now, and new.
    """
    _check_place_and_time(ticket, tenant, now_ms)
    if (ticket.tunnel, ticket.operator) != (grant.tunnel, grant.operator):
        raise TunnelTicketRefused(cause="it is for another tunnel")
    if not grant.covers(ticket.target):
        raise TunnelTicketRefused(cause="it is for a target that the tunnel does not have")
    used.take(f"ticket:{ticket.nonce.hex()}", max(ticket.expires_ms, ticket.issued_ms) + LEEWAY_MS, now_ms)


def _check_place_and_time(paper: Grant | Ticket, tenant: str, now_ms: int) -> None:
    if paper.tenant != tenant:
        raise TunnelTicketRefused(cause="it is for another Tenant")
    if not 0 <= paper.expires_ms - paper.issued_ms <= LIFETIME_MS:
        raise TunnelTicketRefused(cause="it would be good for too long")
    if now_ms < paper.issued_ms - LEEWAY_MS:
        raise TunnelTicketRefused(cause="it is not good yet")
    if now_ms >= paper.expires_ms + LEEWAY_MS:
        raise TunnelTicketRefused(cause="it has expired")


def _parse(payload: bytes) -> dict[str, Any]:
    if len(payload) > _MAX_PAYLOAD:
        raise ValueError
    content = json.loads(payload)
    if not isinstance(content, dict):
        raise ValueError
    return content


def _text(content: Mapping[str, Any], name: str, limit: int) -> str:
    value = content[name]
    if not isinstance(value, str):
        raise ValueError
    return check_text(value, name, limit)


def _time(content: Mapping[str, Any], name: str) -> int:
    value = content[name]
    if type(value) is not int or not 0 <= value <= _NEWEST_MS:
        raise ValueError
    return value


def _target(host: Any, port: Any) -> Target:
    if not isinstance(host, str) or type(port) is not int:
        raise ValueError
    return make_target(host, port)
