"""Grants and tickets: their one form, and what a daemon refuses of them."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.protocol.failures import Failure, TunnelTicketRefused
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.papers import (
    LEEWAY_MS,
    LIFETIME_MS,
    MAX_USED,
    Grant,
    Ticket,
    UsedOnce,
    accept_grant,
    accept_ticket,
    decode_grant,
    decode_ticket,
    encode_grant,
    encode_ticket,
)
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.protocol.tunnels.targets import Target

TUNNEL = "11111111-1111-4111-8111-111111111111"
TENANT = "22222222-2222-4222-8222-222222222222"
OTHER = "33333333-3333-4333-8333-333333333333"
NOW = 1_800_000_000_000
DB, WEB = Target("db", 5432), Target("192.0.2.7", 80)
GRANT = Grant(
    TUNNEL, TENANT, "ada", "198.51.100.4", (DB,), "ticket 4711", NOW, NOW + LIFETIME_MS, NOW + 3_600_000, 60_000
)
TICKET = Ticket(TUNNEL, TENANT, "ada", DB, bytes(range(16)), NOW, NOW + LIFETIME_MS)


def test_papers_come_back_as_they_were_written() -> None:
    """Canonical JSON with the fields of the contract."""
    assert decode_grant(encode_grant(GRANT)) == GRANT
    assert decode_ticket(encode_ticket(TICKET)) == TICKET
    assert set(json.loads(encode_grant(GRANT))) == {
        *(
            "tunnel",
            "tenant",
            "operator",
            "address",
            "targets",
            "reason",
            "issued_ms",
            "expires_ms",
            "until_ms",
            "idle_ms",
        )
    }
    assert json.loads(encode_ticket(TICKET)) == {
        "tunnel": TUNNEL,
        "tenant": TENANT,
        "operator": "ada",
        "host": "db",
        "port": 5432,
        "nonce": "000102030405060708090a0b0c0d0e0f",
        "issued_ms": NOW,
        "expires_ms": NOW + LIFETIME_MS,
    }


_ODD: list[Any] = [
    None,
    True,
    -1,
    1.5,
    1 << 70,
    "",
    "x" * 600,
    "a\nb",
    [],
    {},
    [["db"]],
    [["db", True]],
    [["127.1", 1]],
    "zz",
]


@given(st.sampled_from(sorted(json.loads(encode_grant(GRANT)))), st.sampled_from(_ODD))
def test_a_grant_with_an_odd_field_is_refused_or_is_that_grant(name: str, value: Any) -> None:
    """Nothing but our failure leaves the reader; what is taken is canonical."""
    content = json.loads(encode_grant(GRANT)) | {name: value}
    payload = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        grant = decode_grant(payload)
    except TunnelTicketRefused:
        return
    assert encode_grant(grant) == payload


@given(st.sampled_from(sorted(json.loads(encode_ticket(TICKET)))), st.sampled_from(_ODD))
def test_a_ticket_with_an_odd_field_is_refused_or_is_that_ticket(name: str, value: Any) -> None:
    """The same for tickets."""
    content = json.loads(encode_ticket(TICKET)) | {name: value}
    payload = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        ticket = decode_ticket(payload)
    except TunnelTicketRefused:
        return
    assert encode_ticket(ticket) == payload


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", b"[" * 20_000, encode_ticket(TICKET) + b" "])
def test_what_is_no_paper_is_refused(payload: bytes) -> None:
    """Also one with white space that the signature would cover."""
    for decode in (decode_grant, decode_ticket):
        with pytest.raises(TunnelTicketRefused):
            decode(payload)


def test_papers_are_not_taken_for_each_other() -> None:
    """Their types differ, and so do their fields."""
    with pytest.raises(TunnelTicketRefused):
        decode_ticket(encode_grant(GRANT))
    with pytest.raises(TunnelTicketRefused):
        decode_grant(encode_ticket(TICKET))


def test_a_ticket_counts_once() -> None:
    """The second use is refused, also after it has expired; another one counts."""
    used = UsedOnce()
    accept_grant(GRANT, TENANT, NOW, used)
    accept_ticket(TICKET, GRANT, TENANT, NOW + 1, used)
    for later in (2, LIFETIME_MS + LEEWAY_MS - 1):
        with pytest.raises(TunnelTicketRefused):
            accept_ticket(TICKET, GRANT, TENANT, NOW + later, used)
    accept_ticket(dataclasses.replace(TICKET, nonce=bytes(16)), GRANT, TENANT, NOW, used)
    with pytest.raises(TunnelTicketRefused):
        accept_grant(GRANT, TENANT, NOW + 1, used)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": OTHER},
        {"tunnel": OTHER},
        {"operator": "mallory"},
        {"target": WEB},
        {"expires_ms": NOW + LIFETIME_MS + 1},
        {"expires_ms": NOW - 1},
        {"issued_ms": NOW + LEEWAY_MS + 1, "expires_ms": NOW + LEEWAY_MS + 2},
        {"issued_ms": NOW - LIFETIME_MS - LEEWAY_MS, "expires_ms": NOW - LEEWAY_MS},
    ],
)
def test_a_ticket_for_something_else_is_refused(change: dict[str, Any]) -> None:
    """Another Tenant, tunnel, operator or target; good for too long, not yet, or no more. A refused one is not used up."""
    used = UsedOnce()
    with pytest.raises(TunnelTicketRefused):
        accept_ticket(dataclasses.replace(TICKET, **change), GRANT, TENANT, NOW, used)
    assert len(used) == 0


def test_clocks_may_differ_a_little() -> None:
    """A Tenant whose clock is behind or ahead by the leeway takes what was issued just now."""
    for now in (NOW - LEEWAY_MS, NOW + LIFETIME_MS + LEEWAY_MS - 1):
        accept_ticket(TICKET, GRANT, TENANT, now, UsedOnce())


def test_a_grant_without_targets_covers_every_target_and_one_that_is_over_none() -> None:
    """Each connection is judged by the Tenant's policy then."""
    accept_ticket(TICKET, dataclasses.replace(GRANT, targets=()), TENANT, NOW, UsedOnce())
    with pytest.raises(TunnelTicketRefused):
        accept_grant(dataclasses.replace(GRANT, until_ms=NOW), TENANT, NOW, UsedOnce())
    with pytest.raises(TunnelTicketRefused):
        accept_grant(GRANT, OTHER, NOW, UsedOnce())


def test_the_memory_of_what_was_used_is_bounded_and_forgets_nothing_that_counts() -> None:
    """When it is full of what is still good, new ones are refused; what has expired makes room."""
    used = UsedOnce(limit=3)
    for number in range(3):
        used.take(str(number), until_ms=10 + number, now_ms=0)
    with pytest.raises(TunnelTicketRefused):
        used.take("3", until_ms=50, now_ms=10)
    used.take("3", until_ms=50, now_ms=11)
    for name in ("1", "2", "3"):
        with pytest.raises(TunnelTicketRefused):
            used.take(name, until_ms=50, now_ms=11)
    assert len(used) == 3 <= MAX_USED


@pytest.mark.parametrize("end", TunnelEnd)
def test_every_end_is_a_failure_with_words(end: TunnelEnd) -> None:
    """Whatever ended a tunnel or a dial: the caller is told, without a hole in the text."""
    for target in (None, DB):
        for detail in ("", "because"):
            failure = failure_of_end(end, detail, TENANT, target)
            assert isinstance(failure, Failure)
            assert "?" not in failure.describe() and "{" not in failure.describe()
            says_itself = failure.reason.startswith(("TARGET_", "TENANT_", "TUNNEL_REASON"))
            assert says_itself or detail in failure.describe()
