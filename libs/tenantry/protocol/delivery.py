"""Delivery: at least once on the wire, exactly once in effect.

Each (Tenant, stream, epoch) has sequence numbers 1, 2, 3, … and a hash chain over its records. The Master keeps one `HighWater`
for it, moved in the transaction that stores the rows; `judge` decides what of a batch is to be stored. The daemon plans with
`plan_resume` what a new link begins with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tenantry.protocol.messages import CHAIN_START, Batch, Loss, NackCause, ResumeMark, StreamMark

_sha256 = hashlib.sha256


def extend_chain(chain: bytes, records: Iterable[bytes]) -> bytes:
    """The chain after ``records``: h_n = SHA-256(h_{n-1} || record_n)."""
    for record in records:
        chain = _sha256(chain + record).digest()
    return chain


class HighWater(NamedTuple):
    """What is stored of one (Tenant, stream, epoch): the last sequence number and the chain after it."""

    last_seq: int = 0
    chain: bytes = CHAIN_START


@dataclass(frozen=True, slots=True)
class Store:
    """Store ``records`` (those that are new), and move the mark to ``after``."""

    records: Sequence[bytes]
    first_seq: int
    after: HighWater


@dataclass(frozen=True, slots=True)
class StoreLoss:
    """Write the hole ``first_seq`` to ``last_seq`` into the gap ledger, and move the mark to ``after``."""

    first_seq: int
    last_seq: int
    after: HighWater


@dataclass(frozen=True, slots=True)
class AlreadyStored:
    """All of it is stored; acknowledge again."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Store nothing; tell the daemon why."""

    cause: NackCause
    expected_seq: int
    detail: str


Verdict = Store | StoreLoss | AlreadyStored | Refuse


def judge(mark: HighWater, message: Batch | Loss) -> Verdict:
    """What to do with a batch or a declared loss, given what is stored.

    Nothing is stored beyond a hole that was not declared, and nothing whose chain does not continue the stored one. The part of
    a batch that is stored already is skipped, not compared: the chain of the new part proves it.
    """
    expected = mark.last_seq + 1
    if message.first_seq > expected:
        return Refuse(NackCause.GAP, expected, f"expected {expected}, got {message.first_seq}")
    if message.last_seq < expected:
        return AlreadyStored()
    if isinstance(message, Loss):
        return StoreLoss(expected, message.last_seq, HighWater(message.last_seq, message.chain))
    fresh = message.records[expected - message.first_seq :] if message.first_seq < expected else message.records
    chain = extend_chain(mark.chain, fresh)
    if chain != message.chain:
        return Refuse(NackCause.CHAIN, expected, "the chain does not continue what is stored")
    return Store(fresh, expected, HighWater(message.last_seq, chain))


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A daemon's spool contradicts what it was told before. ``cause`` is UPPER_SNAKE."""

    cause: str
    detail: str


def check_continuity(
    *,
    offered: int,
    confirmed: int,
    handed: int,
    marks: Sequence[StreamMark],
    stored: dict[str, HighWater],
    restored: bool,
) -> Contradiction | None:
    """Whether a Hello proves that it is the machine that the Master knows.

    ``offered`` is the incarnation in the Hello; ``handed`` the newest that the Master handed out, ``confirmed`` the newest that the
    daemon is known to have written down (a daemon may die in between, so both are honest). ``stored`` maps the value of a stream to
    what the Master has of this epoch. Who remembers more than the Master is believed where the Master is known to be ``restored`` from
    a backup, or where the epoch is one that it knows: 16 random bytes that only the machine with the spool can name. A stolen
    certificate alone is no memory.
    """
    if offered < confirmed:
        return Contradiction("STALE_INCARNATION", f"offers incarnation {offered}, has confirmed {confirmed}")
    if master_is_behind(offered=offered, handed=handed, marks=marks, stored=stored):
        if restored or stored or not confirmed:
            return None
        return Contradiction(
            "UNKNOWN_HISTORY", f"offers incarnation {offered} and an epoch that was never seen; {handed} was handed out"
        )
    for mark in marks:
        known = stored.get(mark.stream.value, HighWater())
        if mark.next_seq <= known.last_seq:
            return Contradiction(
                "SPOOL_ROLLED_BACK",
                f"{mark.stream.value} stands before {mark.next_seq}, but {known.last_seq} was stored",
            )
        if mark.acknowledged_seq == known.last_seq and mark.acknowledged_chain != known.chain:
            return Contradiction("CHAIN_MISMATCH", f"{mark.stream.value} has another history at {known.last_seq}")
    return None


def master_is_behind(*, offered: int, handed: int, marks: Sequence[StreamMark], stored: dict[str, HighWater]) -> bool:
    """Whether the daemon remembers what only this Master can have told it and the Master does not: it was restored from a backup."""
    return offered > handed or any(
        mark.acknowledged_seq > stored.get(mark.stream.value, HighWater()).last_seq for mark in marks
    )


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """How a daemon goes on in one stream: what it may treat as acknowledged, from where it sends, what it must declare lost."""

    acknowledged_seq: int
    send_from: int
    lost: tuple[int, int] | None


def plan_resume(mark: StreamMark, resumed: ResumeMark, chain_there: bytes | None) -> ResumePlan | None:
    """What to do in one stream after Resume; None when the histories differ and a new epoch is needed.

    ``chain_there`` is the daemon's own chain at ``resumed.last_seq``, None where it no longer knows it (older than its replay tail).
    """
    if resumed.last_seq >= mark.next_seq:
        return None
    if chain_there is not None and chain_there != resumed.chain:
        return None
    if resumed.last_seq < mark.oldest_seq - 1:
        return ResumePlan(resumed.last_seq, mark.oldest_seq, (resumed.last_seq + 1, mark.oldest_seq - 1))
    return ResumePlan(resumed.last_seq, resumed.last_seq + 1, None)
